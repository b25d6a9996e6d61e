"""This broker as its own controller reaches it: the control requests, carried out in the process.

Rules:
- One request after the other, in the order of their coming; a long one gives the loop a turn every 2 ms.
- A topic's settings are known before its logs are opened.
- Whoever leads a partition of ``__consumer_offsets`` loads its groups before it answers for them; the answer to
  the controller does not wait for that. What is loaded when the broker comes up keeps no offsets of topics
  that the first UpdateMetadata, which names them all, does not know: their deletion was cut short. What could
  not be loaded is tried again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ottla.broker.internal_topics import CONSUMER_OFFSETS
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicError,
)
from ottla.messages.stop_replica import (
    StopReplicaPartitionError,
    StopReplicaRequest,
    StopReplicaResponse,
)
from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

log = logger(__name__)

SLICE_S = 0.002

LOAD_RETRY_S = 30.0
"""Pause before groups that could not be read are loaded again."""


class LocalTarget:
    """The ``ControlTarget`` of the broker in this process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = asyncio.Lock()
        self._loading: set[asyncio.Task[None]] = set()
        self._first_topics: asyncio.Future[frozenset[str]] = (
            asyncio.get_running_loop().create_future()
        )

    async def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        """Lead what the request says that this broker leads."""
        broker = self._broker
        response = LeaderAndIsrResponse()
        async with self._turn:
            topics = {state.topic_name: state.topic_id for state in request.topic_states}
            await broker.config_listener.load_topics(topics)
            await self._set_aside_strays(request)
            slice_end = time.monotonic() + SLICE_S
            for topic in request.topic_states:
                answers = LeaderAndIsrTopicError(topic_id=topic.topic_id)
                response.topics.append(answers)
                for state in topic.partition_states:
                    code = ErrorCode.NONE
                    if state.leader == broker.node_id:
                        code = broker.replicas.lead(topic.topic_name, topic.topic_id, state)
                        if topic.topic_name == CONSUMER_OFFSETS and not code:
                            self._load_groups(state.partition_index)
                    elif broker.replicas.is_offline(topic.topic_name, state.partition_index):
                        code = ErrorCode.KAFKA_STORAGE_ERROR
                    answers.partition_errors.append(
                        LeaderAndIsrPartitionError(
                            partition_index=state.partition_index, error_code=code
                        )
                    )
                    if time.monotonic() >= slice_end:
                        await asyncio.sleep(0)
                        slice_end = time.monotonic() + SLICE_S
        return response

    async def _set_aside_strays(self, request: LeaderAndIsrRequest) -> None:
        """Before a topic is led: what is here of another one of its name must not be taken for its past."""
        replicas = self._broker.replicas
        try:
            for topic in request.topic_states:
                for state in topic.partition_states:
                    replicas.set_aside_stray(
                        topic.topic_name, topic.topic_id, state.partition_index
                    )
            await replicas.forget_removed()
        except KafkaError as error:  # whoever then leads meets the same disk
            log.warning("logs of other topics are not all set aside", reason=str(error))

    async def update_metadata(self, request: UpdateMetadataRequest) -> UpdateMetadataResponse:
        """Know the cluster as it is now."""
        async with self._turn:
            for name in self._broker.metadata.update(request):
                self._broker.topic_deleted(name)
            if not self._first_topics.done():
                self._first_topics.set_result(frozenset(self._broker.metadata.topics))
        return UpdateMetadataResponse()

    async def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        """Let go of replicas; with ``delete_partition`` their files go in the background.

        One whose files can't be taken away now has its own error in the answer.
        """
        response = StopReplicaResponse()
        async with self._turn:
            slice_end = time.monotonic() + SLICE_S
            for topic in request.topic_states:
                for state in topic.partition_states:
                    if topic.topic_name == CONSUMER_OFFSETS:
                        self._broker.groups.unload(state.partition_index)
                    await self._broker.replicas.moves.end(topic.topic_name, state.partition_index)
                    try:
                        self._broker.replicas.remove(
                            topic.topic_name, state.partition_index, delete=state.delete_partition
                        )
                    except KafkaError as error:
                        response.partition_errors.append(
                            StopReplicaPartitionError(
                                topic_name=topic.topic_name,
                                partition_index=state.partition_index,
                                error_code=error.code,
                            )
                        )
                    if time.monotonic() >= slice_end:
                        await asyncio.sleep(0)
                        slice_end = time.monotonic() + SLICE_S
            try:
                await self._broker.replicas.forget_removed()
            except KafkaError as error:
                response.error_code = error.code
        return response

    async def close(self) -> None:
        """End loadings that are under way."""
        for task in list(self._loading):
            task.cancel()
        await asyncio.gather(*self._loading, return_exceptions=True)

    def _load_groups(self, partition: int) -> None:
        groups = self._broker.groups
        if groups.owns(partition):
            return
        topics = None if self._first_topics.done() else self._first_topics
        task = asyncio.create_task(self._load(partition, topics), name=f"load groups {partition}")
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def _load(self, partition: int, topics: asyncio.Future[frozenset[str]] | None) -> None:
        broker = self._broker
        while True:
            try:
                await broker.groups.load(partition, broker.group_log.read(partition), topics)
                return
            except KafkaError as error:
                log.error("groups cannot be loaded", partition=partition, reason=str(error))
            except Exception as error:  # a read that failed; or ours to mend, but not in silence
                log.error("groups cannot be loaded", partition=partition, error=error)
            await asyncio.sleep(LOAD_RETRY_S)
            led = broker.replicas.get(CONSUMER_OFFSETS, partition)
            if broker.groups.owns(partition) or led is None or not led.is_leader:
                return
