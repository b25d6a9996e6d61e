"""The controller's orders, carried out: LeaderAndIsr, UpdateMetadata and StopReplica, wherever they come from.

Rules:
- One request after the other, in the order of their coming; a long one gives the loop a turn every 2 ms.
- A request of a controller that has been followed by another one, or to an earlier life of this broker, changes
  nothing: STALE_CONTROLLER_EPOCH, STALE_BROKER_EPOCH (INVARIANTS 27). The epochs are looked at in its turn.
- A topic's settings are known before its logs are opened: retention by the wrong ones would delete records.
- What a *full* LeaderAndIsr, which names all that this broker has, does not name, and the store neither, is set aside
  and not deleted: see ``strays``.
- Whoever leads a partition of ``__consumer_offsets`` takes over its groups: see ``group_loading``.
- Who may have lost records says so until the first LeaderAndIsr of its life: by then no ISR counts on it.
- How to reach a leader is known before it is followed, though UpdateMetadata comes later.

Source: ``ReplicaManager.becomeLeaderOrFollower``, ``stopReplicas``; ``KafkaApis.handleLeaderAndIsrRequest``,
``handleUpdateMetadataRequest``, ``handleStopReplicaRequest``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ottla.broker.internal_topics import CONSUMER_OFFSETS
from ottla.broker.strays import unknown_to_cluster
from ottla.coordination.bootstrap import catch_up
from ottla.coordination.store import SessionExpired, StoreError
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicError,
)
from ottla.messages.stop_replica import (
    StopReplicaPartitionError,
    StopReplicaPartitionState,
    StopReplicaRequest,
    StopReplicaResponse,
)
from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

log = logger(__name__)

SLICE_S = 0.002

SETTINGS_RETRY_S = 0.2
"""Pause before the settings of topics are read again that the store did not give."""

ANY_EPOCH = -1
"""The broker epoch of a request that is to any life of the broker."""

FULL = 2
"""The type of a LeaderAndIsr that names every partition that the broker has."""


class _Turns:
    """Gives the loop a turn when a slice of time is used up."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE_S

    async def next(self) -> None:
        if time.monotonic() >= self._end:
            await asyncio.sleep(0)
            self._end = time.monotonic() + SLICE_S


class Control:
    """The receiving end of the control requests: the ``ControlTarget`` of this process, and of the network."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = asyncio.Lock()
        self._configured: dict[str, bytes] = {}
        self.controller_epoch = 0
        """The newest that has been heard of."""
        self.peers: dict[int, tuple[str, int]] = {}
        """Where brokers are reached by brokers, as last heard."""
        self.metadata_known = asyncio.Event()
        """Set once this life of the broker was told of the cluster."""

    async def _refusal(self, controller_epoch: int, broker_epoch: int) -> ErrorCode:
        """Why a request is not followed, or NONE; if it is, its controller's epoch is the newest."""
        if broker_epoch != ANY_EPOCH:  # until we know our epoch nobody knows which life it is for
            await self._broker.session.registered.wait()
        if self._is_past(broker_epoch):
            code = ErrorCode.STALE_BROKER_EPOCH
        elif controller_epoch < self.controller_epoch:
            code = ErrorCode.STALE_CONTROLLER_EPOCH
        else:
            self.controller_epoch = controller_epoch
            return ErrorCode.NONE
        log.warning(
            "a control request is refused",
            code=code.name,
            controller_epoch=controller_epoch,
            broker_epoch=broker_epoch,
        )
        return code

    def _is_past(self, broker_epoch: int) -> bool:
        """Whether the life that a request was meant for has ended while it was carried out."""
        return broker_epoch != ANY_EPOCH and broker_epoch < self._broker.session.oldest_epoch

    # LeaderAndIsr

    async def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        """Lead and follow what the request says; answered once this broker does."""
        async with self._turn:
            refusal = await self._refusal(request.controller_epoch, request.broker_epoch)
            if not refusal:
                refusal = await self._know_settings(request)
            if not refusal and (self._broker.may_have_lost or self._broker.short):
                refusal = await self._loss_is_known()
            if not refusal and self._is_past(request.broker_epoch):
                refusal = ErrorCode.STALE_BROKER_EPOCH
            if refusal:
                return _refused(request, refusal)
            for leader in request.live_leaders:
                self.peers[leader.broker_id] = (leader.host_name, leader.port)
            await self._set_aside_strays(request)
            some_short = bool(self._broker.directories.short)
            response = await self._take_up(request)
            if some_short:
                await self._short_are_known(request)
            return response

    async def _know_settings(self, request: LeaderAndIsrRequest) -> ErrorCode:
        """Read the settings of topics that are new here; what is altered later the listener hears of."""
        topics = {
            state.topic_name: state.topic_id
            for state in request.topic_states
            if self._configured.get(state.topic_name) != state.topic_id
        }
        while topics:
            try:
                if (
                    self._broker.in_cluster
                ):  # the controller has written them, perhaps by another server
                    await catch_up(self._broker.session.store)
                await self._broker.config_listener.load_topics(topics)
            except SessionExpired:  # whoever leads after it will be told anew
                return ErrorCode.STALE_BROKER_EPOCH
            except StoreError as error:
                log.warning("the settings of topics can't be read now", reason=str(error))
                await asyncio.sleep(SETTINGS_RETRY_S)
            else:
                self._configured.update(topics)
                break
        return ErrorCode.NONE

    async def _loss_is_known(self) -> ErrorCode:
        """The controller has taken what may lack records out of the ISRs (INVARIANTS 20): what is copied from here on counts.

        A session that expires before this is written down says the same in its next registration.
        """
        broker = self._broker
        while True:
            known = broker.registration()._replace(unclean=False, short=frozenset())
            try:
                await broker.session.register_anew(known)
                break
            except SessionExpired:
                return ErrorCode.STALE_BROKER_EPOCH
            except StoreError as error:
                log.warning("the registration can't be written now", reason=str(error))
                await asyncio.sleep(SETTINGS_RETRY_S)
        broker.may_have_lost, broker.short = False, ()
        await asyncio.to_thread(broker.directories.forget_loss)
        return ErrorCode.NONE

    async def _short_are_known(self, request: LeaderAndIsrRequest) -> None:
        """Write down which replicas are short still; what a full request does not name was taken away before."""
        directories = self._broker.directories
        if request.type == FULL:
            directories.forget_short(directories.short.keys() - _named(request))
        await asyncio.to_thread(directories.save_short)

    async def _set_aside_strays(self, request: LeaderAndIsrRequest) -> None:
        """Before a topic is led: what is here of another one of its name must not be taken for its past."""
        replicas = self._broker.replicas
        turns = _Turns()
        try:
            if request.type == FULL:
                named = _named(request)
                unnamed = [key for key in replicas.held() if key not in named]
                for topic_name, index in await unknown_to_cluster(self._broker, unnamed):
                    self._stray(topic_name, index)
                    await turns.next()
            for topic in request.topic_states:
                for state in topic.partition_states:
                    replicas.set_aside_stray(
                        topic.topic_name, topic.topic_id, state.partition_index
                    )
                    await turns.next()
            await replicas.forget_removed()
        except KafkaError as error:  # whoever then leads meets the same disk
            log.warning("logs of other topics are not all set aside", reason=str(error))

    def _stray(self, topic: str, index: int) -> None:
        log.warning(
            "a replica that the cluster does not know is set aside", replica=f"{topic}-{index}"
        )
        if topic == CONSUMER_OFFSETS:
            self._broker.group_loading.resign(index)
        self._broker.replicas.set_aside(topic, index)

    async def _take_up(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        response = LeaderAndIsrResponse()
        turns = _Turns()
        for topic in request.topic_states:
            answers = LeaderAndIsrTopicError(topic_id=topic.topic_id)
            response.topics.append(answers)
            for state in topic.partition_states:
                if self._is_past(request.broker_epoch):
                    return _refused(request, ErrorCode.STALE_BROKER_EPOCH)
                answers.partition_errors.append(
                    LeaderAndIsrPartitionError(
                        partition_index=state.partition_index,
                        error_code=self._take_up_one(topic.topic_name, topic.topic_id, state),
                    )
                )
                await turns.next()
        return response

    def _take_up_one(
        self, topic: str, topic_id: bytes, state: LeaderAndIsrPartitionState
    ) -> ErrorCode:
        broker, index = self._broker, state.partition_index
        leads = state.leader == broker.node_id
        if topic == CONSUMER_OFFSETS and not leads:
            broker.group_loading.resign(index, state.leader_epoch)
        if broker.node_id not in state.replicas:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if not leads:
            return broker.replicas.follow(topic, topic_id, state)
        code = broker.replicas.lead(topic, topic_id, state)
        if topic == CONSUMER_OFFSETS and not code:
            broker.group_loading.lead(index, state.leader_epoch)
        return code

    # UpdateMetadata

    async def update_metadata(self, request: UpdateMetadataRequest) -> UpdateMetadataResponse:
        """Know the cluster as it is now."""
        broker = self._broker
        async with self._turn:
            refusal = await self._refusal(request.controller_epoch, request.broker_epoch)
            if refusal:
                return UpdateMetadataResponse(error_code=refusal)
            listener = broker.config.inter_broker_listener
            peers, alive = dict(self.peers), broker.metadata.brokers.keys()
            for live in request.live_brokers:
                for endpoint in live.endpoints:
                    if endpoint.listener == listener:
                        self.peers[live.id] = (endpoint.host, endpoint.port)
            turns = _Turns()
            for gone in broker.metadata.update_in_steps(request):
                if gone is not None:
                    known = self._configured.get(gone.name)
                    if known in (None, gone.topic_id):
                        self._configured.pop(gone.name, None)
                        broker.topic_deleted(gone.name)
                    else:  # these are the settings of another one of its name, which is led here
                        broker.groups.topics_deleted([gone.name])
                await turns.next()
            if peers != self.peers or broker.metadata.brokers.keys() - alive:
                await broker.replicas.brokers_changed()
            broker.group_loading.metadata_changed()
            self.metadata_known.set()
        return UpdateMetadataResponse()

    # StopReplica

    async def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        """Let go of replicas; with ``delete_partition`` their files go in the background.

        One whose files can't be taken away now has its own error in the answer.
        """
        response = StopReplicaResponse()
        async with self._turn:
            refusal = await self._refusal(request.controller_epoch, request.broker_epoch)
            if refusal:
                return StopReplicaResponse(error_code=refusal)
            turns = _Turns()
            for topic in request.topic_states:
                for state in topic.partition_states:
                    code = await self._stop_one(topic.topic_name, state)
                    response.partition_errors.append(
                        StopReplicaPartitionError(
                            topic_name=topic.topic_name,
                            partition_index=state.partition_index,
                            error_code=code,
                        )
                    )
                    await turns.next()
            try:
                await self._broker.replicas.forget_removed()
            except KafkaError as error:
                response.error_code = error.code
        return response

    async def _stop_one(self, topic: str, state: StopReplicaPartitionState) -> ErrorCode:
        replicas, index = self._broker.replicas, state.partition_index
        partition = replicas.get(topic, index)
        if partition is not None and 0 <= state.leader_epoch < partition.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        if topic == CONSUMER_OFFSETS:
            self._broker.group_loading.resign(index)
        await replicas.moves.end(topic, index)
        try:
            replicas.remove(topic, index, delete=state.delete_partition)
        except KafkaError as error:
            return error.code
        return ErrorCode.NONE


def _named(request: LeaderAndIsrRequest) -> set[tuple[str, int]]:
    """Topic and index of all partitions in the request."""
    return {
        (topic.topic_name, state.partition_index)
        for topic in request.topic_states
        for state in topic.partition_states
    }


def _refused(request: LeaderAndIsrRequest, code: ErrorCode) -> LeaderAndIsrResponse:
    """Nothing of the request was done."""
    return LeaderAndIsrResponse(
        error_code=code,
        topics=[
            LeaderAndIsrTopicError(
                topic_id=topic.topic_id,
                partition_errors=[
                    LeaderAndIsrPartitionError(
                        partition_index=state.partition_index, error_code=code
                    )
                    for state in topic.partition_states
                ],
            )
            for topic in request.topic_states
        ],
    )
