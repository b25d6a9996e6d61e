"""This broker as its own controller reaches it: the control requests, carried out in the process.

Rules:
- One request after the other, in the order of their coming; a long one gives the loop a turn every 2 ms.
- A topic's settings are known before its logs are opened.
- Whoever leads a partition of ``__consumer_offsets`` takes over its groups: see ``group_loading``.
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


class LocalTarget:
    """The ``ControlTarget`` of the broker in this process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = asyncio.Lock()

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
                    if topic.topic_name == CONSUMER_OFFSETS and state.leader != broker.node_id:
                        broker.group_loading.resign(state.partition_index, state.leader_epoch)
                    if state.leader == broker.node_id:
                        code = broker.replicas.lead(topic.topic_name, topic.topic_id, state)
                        if topic.topic_name == CONSUMER_OFFSETS and not code:
                            broker.group_loading.lead(state.partition_index, state.leader_epoch)
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
            self._broker.group_loading.metadata_changed()
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
                        self._broker.group_loading.resign(state.partition_index)
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
