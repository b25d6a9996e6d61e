"""What is to be told to one broker: its control requests, one after the other, until they are answered.

Rules:
- Requests leave in the order in which they were put, one at a time. One that got no answer is sent again,
  until the queue is closed because the broker's epoch is gone.
- What waits behind a slow broker is merged: a later state of a partition takes the place of an earlier one.
  LeaderAndIsr may overtake UpdateMetadata (a broker leads before it says so), nothing passes a StopReplica.
- ``put`` never waits. Nobody but this broker's own requests waits for this broker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ottla.controller.transitions import FULL
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
)
from ottla.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse

log = logger(__name__)

RETRY_DELAY_S = 0.1
"""Pause before a request that got no answer is sent again, as in Kafka."""

_UNKNOWN_OUTCOME = frozenset(
    (ErrorCode.NETWORK_EXCEPTION, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.BROKER_NOT_AVAILABLE)
)

ControlRequest = LeaderAndIsrRequest | UpdateMetadataRequest | StopReplicaRequest
ControlResponse = LeaderAndIsrResponse | UpdateMetadataResponse | StopReplicaResponse


class ControlTarget(Protocol):
    """A broker, as the controller reaches it: in this process, or by a channel."""

    async def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        """Lead, or follow, these partitions; answered once it does."""
        ...

    async def update_metadata(self, request: UpdateMetadataRequest) -> UpdateMetadataResponse:
        """Know the cluster as it is now."""
        ...

    async def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        """Stop replicas, and delete their logs where asked; unknown ones are a success."""
        ...


Answered = Callable[[int, ControlRequest, ControlResponse | None], None]
"""Told of every answer: the broker's id, what it was asked, what it said; None where it will never say anything."""


class _Item:
    __slots__ = ("future", "request")

    def __init__(self, request: ControlRequest, future: asyncio.Future[ControlResponse | None]):
        self.request = request
        self.future = future


class ControlQueue:
    """The requests to one broker under one broker epoch."""

    def __init__(
        self,
        broker_id: int,
        epoch: int,
        target: ControlTarget,
        answered: Answered,
        release: Callable[[], None] | None = None,
    ) -> None:
        """``release`` lets go of the target when the queue is closed."""
        self.broker_id = broker_id
        self.epoch = epoch
        self._target = target
        self._answered = answered
        self._release = release
        self._waiting: deque[_Item] = deque()
        self._under_way: _Item | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + (self._under_way is not None)

    def put(self, request: ControlRequest) -> asyncio.Future[ControlResponse | None]:
        """Have ``request`` sent; the future is its answer, or None where none will come."""
        loop = asyncio.get_running_loop()
        if self._closed:
            future: asyncio.Future[ControlResponse | None] = loop.create_future()
            future.set_result(None)
            return future
        merged = self._merge(request)
        if merged is not None:
            return merged
        item = _Item(request, loop.create_future())
        self._waiting.append(item)
        if self._task is None:
            self._task = loop.create_task(self._run(), name=f"control of broker {self.broker_id}")
        return item.future

    async def idle(self) -> None:
        """Wait until everything that was put has been answered."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    def close(self) -> None:
        """Send nothing more: the broker's epoch is gone, or we are not the controller."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        items = [*([self._under_way] if self._under_way else ()), *self._waiting]
        self._waiting.clear()
        for item in items:
            if not item.future.done():
                item.future.set_result(None)
        if self._release is not None:
            self._release()

    # Sending

    async def _run(self) -> None:
        try:
            while self._waiting:
                item = self._under_way = self._waiting.popleft()
                response = await self._send(item.request)
                self._under_way = None
                if not item.future.done():
                    item.future.set_result(response)
                self._answered(self.broker_id, item.request, response)
        finally:
            self._task = None

    async def _send(self, request: ControlRequest) -> ControlResponse | None:
        """The answer; None where the request can't be carried out, whoever sends it how often."""
        told = False
        while True:
            try:
                return await self._call(request)
            except (OSError, KafkaError) as error:
                if isinstance(error, KafkaError) and error.code not in _UNKNOWN_OUTCOME:
                    self._log("control request refused", request, error)
                    return None
                if not told:
                    told = True
                    self._log("control request not answered; sent again", request, error)
            except Exception as error:  # whatever it is, it is that broker's and not the others'
                self._log("control request failed", request, error)
                return None
            await asyncio.sleep(RETRY_DELAY_S)

    def _call(self, request: ControlRequest) -> Awaitable[ControlResponse]:
        if isinstance(request, LeaderAndIsrRequest):
            return self._target.leader_and_isr(request)
        if isinstance(request, UpdateMetadataRequest):
            return self._target.update_metadata(request)
        return self._target.stop_replica(request)

    def _log(self, what: str, request: ControlRequest, error: Exception) -> None:
        name = type(request).__name__
        if isinstance(error, OSError | KafkaError):
            log.warning(what, broker=self.broker_id, request=name, reason=str(error))
        else:
            log.error(what, broker=self.broker_id, request=name, error=error)

    # Merging

    def _merge(self, request: ControlRequest) -> asyncio.Future[ControlResponse | None] | None:
        """Put ``request`` into one that still waits; None if there is none that it may join."""
        for item in reversed(self._waiting):
            waiting = item.request
            if isinstance(waiting, LeaderAndIsrRequest) and isinstance(
                request, LeaderAndIsrRequest
            ):
                item.request = _merged_leader_and_isr(waiting, request)
                return item.future
            if isinstance(waiting, UpdateMetadataRequest) and isinstance(
                request, UpdateMetadataRequest
            ):
                item.request = _merged_metadata(waiting, request)
                self._waiting.remove(item)  # behind the LeaderAndIsr that have come since
                self._waiting.append(item)
                return item.future
            if isinstance(waiting, StopReplicaRequest) and isinstance(request, StopReplicaRequest):
                item.request = _merged_stops(waiting, request)
                return item.future
            if isinstance(waiting, StopReplicaRequest) or isinstance(request, StopReplicaRequest):
                return None
        return None


def _merged_states(earlier: list[Any], later: list[Any]) -> list[Any]:
    """Topic states of two requests, the later state of a partition in the place of the earlier one."""
    merged: dict[tuple[str, bytes | None], tuple[type[Any], dict[int, Any]]] = {}
    for topic in (*earlier, *later):
        key = (topic.topic_name, getattr(topic, "topic_id", None))
        _, states = merged.setdefault(key, (type(topic), {}))
        for state in topic.partition_states:
            known = states.get(state.partition_index)
            if isinstance(known, LeaderAndIsrPartitionState) and known.is_new > state.is_new:
                state = _as_new(state)
            states[state.partition_index] = state
    return [
        kind(
            topic_name=name,
            partition_states=list(states.values()),
            **({} if topic_id is None else {"topic_id": topic_id}),
        )
        for (name, topic_id), (kind, states) in merged.items()
    ]


def _as_new(state: LeaderAndIsrPartitionState) -> LeaderAndIsrPartitionState:
    """``state`` of a replica that was told of as new before: it still has no log."""
    return LeaderAndIsrPartitionState(
        partition_index=state.partition_index,
        controller_epoch=state.controller_epoch,
        leader=state.leader,
        leader_epoch=state.leader_epoch,
        isr=state.isr,
        partition_epoch=state.partition_epoch,
        replicas=state.replicas,
        adding_replicas=state.adding_replicas,
        removing_replicas=state.removing_replicas,
        is_new=True,
        leader_recovery_state=state.leader_recovery_state,
    )


def _merged_leader_and_isr(
    earlier: LeaderAndIsrRequest, later: LeaderAndIsrRequest
) -> LeaderAndIsrRequest:
    leaders = {live.broker_id: live for live in (*earlier.live_leaders, *later.live_leaders)}
    return LeaderAndIsrRequest(
        controller_id=later.controller_id,
        controller_epoch=later.controller_epoch,
        broker_epoch=later.broker_epoch,
        type=max(earlier.type, later.type),
        topic_states=_merged_states(earlier.topic_states, later.topic_states),
        live_leaders=list(leaders.values()),
    )


def _merged_metadata(
    earlier: UpdateMetadataRequest, later: UpdateMetadataRequest
) -> UpdateMetadataRequest:
    if later.type == FULL:  # what it does not name is no more
        return later
    return UpdateMetadataRequest(
        controller_id=later.controller_id,
        controller_epoch=later.controller_epoch,
        broker_epoch=later.broker_epoch,
        type=earlier.type,
        topic_states=_merged_states(earlier.topic_states, later.topic_states),
        live_brokers=later.live_brokers,
    )


def _merged_stops(earlier: StopReplicaRequest, later: StopReplicaRequest) -> StopReplicaRequest:
    return StopReplicaRequest(
        controller_id=later.controller_id,
        controller_epoch=later.controller_epoch,
        broker_epoch=later.broker_epoch,
        topic_states=_merged_states(earlier.topic_states, later.topic_states),
    )
