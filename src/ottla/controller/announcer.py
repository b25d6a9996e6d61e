"""Telling the brokers: control requests go out to all concerned at once, and their answers are read.

Rules: LeaderAndIsr is answered by the replicas before UpdateMetadata tells anybody of the leader, so that no
client is sent to a leader that does not know it yet. A broker that can't be told is logged; its part is
reported as failed where the outcome matters (deletions).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol, TypeVar

from ottla.controller import transitions
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.errors import ErrorCode
from ottla.logs import logger
from ottla.messages.leader_and_isr import LeaderAndIsrRequest, LeaderAndIsrResponse
from ottla.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse

log = logger(__name__)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


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


class Announcer:
    """Sends what ``transitions`` derives from the state to the brokers that can be reached."""

    def __init__(self, targets: Mapping[int, ControlTarget], listener: str) -> None:
        self._targets = targets
        self._listener = listener

    async def announce(
        self,
        state: ClusterState,
        partitions: Collection[PartitionId],
        *,
        new: Collection[PartitionId] = (),
    ) -> dict[int, set[PartitionId]]:
        """Tell the replicas of ``partitions`` who leads, then everybody.

        Returns what brokers cannot take up because of a log directory that failed (KAFKA_STORAGE_ERROR).
        """
        requests = transitions.leader_and_isr_requests(
            state, partitions, new=new, listener=self._listener
        )
        answers = await self._send(requests, lambda target: target.leader_and_isr)
        offline: dict[int, set[PartitionId]] = {}
        for broker_id, answer in answers.items():
            if answer is not None:
                refused = _refused(state, broker_id, answer)
                if refused:
                    offline[broker_id] = refused
        await self.update_metadata(state, partitions)
        return offline

    async def update_metadata(
        self, state: ClusterState, partitions: Collection[PartitionId]
    ) -> None:
        """Tell every broker of the live brokers and of ``partitions``."""
        requests = transitions.update_metadata_requests(state, partitions)
        await self._send(requests, lambda target: target.update_metadata)

    async def delete_replicas(self, state: ClusterState, topics: Collection[str]) -> set[str]:
        """Have all replicas of ``topics`` deleted; returns the topics of which some may be left."""
        left = {
            topic
            for topic in topics
            for replicas in state.topics[topic].assignment.values()
            if not all(state.is_alive(replica) for replica in replicas)
        }
        requests = transitions.delete_replica_requests(state, topics)
        answers = await self._send(requests, lambda target: target.stop_replica)
        for broker_id, request in requests.items():
            answer = answers[broker_id]
            asked = {topic_state.topic_name for topic_state in request.topic_states}
            if answer is None or answer.error_code != ErrorCode.NONE:
                left |= asked
                continue
            for refusal in answer.partition_errors:
                if refusal.error_code != ErrorCode.NONE:
                    left.add(refusal.topic_name)
                    log.error(
                        "broker could not delete a replica",
                        broker=broker_id,
                        topic=refusal.topic_name,
                        partition=refusal.partition_index,
                        code=ErrorCode(refusal.error_code).name,
                    )
        return left & set(topics)

    async def _send(
        self,
        requests: Mapping[int, _Request],
        method: Callable[[ControlTarget], Callable[[_Request], Awaitable[_Response]]],
    ) -> dict[int, _Response | None]:
        """The answers by broker; None from one that can't be reached or failed."""
        answers = await asyncio.gather(
            *(self._send_one(broker_id, request, method) for broker_id, request in requests.items())
        )
        return dict(zip(requests, answers, strict=True))

    async def _send_one(
        self,
        broker_id: int,
        request: _Request,
        method: Callable[[ControlTarget], Callable[[_Request], Awaitable[_Response]]],
    ) -> _Response | None:
        target = self._targets.get(broker_id)
        if target is None:
            log.warning("no way to a broker", broker=broker_id, request=type(request).__name__)
            return None
        try:
            return await method(target)(request)
        except (
            Exception
        ) as error:  # whatever it is, it is that broker's and must not end the others
            log.error(
                "control request failed",
                error=error,
                broker=broker_id,
                request=type(request).__name__,
            )
            return None


def _refused(state: ClusterState, broker_id: int, answer: LeaderAndIsrResponse) -> set[PartitionId]:
    """Log what a broker refused; returns what it has in a log directory that failed."""
    offline: set[PartitionId] = set()
    if answer.error_code != ErrorCode.NONE:
        log.error(
            "broker refused its partitions",
            broker=broker_id,
            code=ErrorCode(answer.error_code).name,
        )
    for topic in answer.topics:
        known = state.topic_by_id(topic.topic_id)
        for refusal in topic.partition_errors:
            if refusal.error_code == ErrorCode.KAFKA_STORAGE_ERROR and known is not None:
                offline.add(PartitionId(known.name, refusal.partition_index))
            elif refusal.error_code != ErrorCode.NONE:
                log.error(
                    "broker can't take up a partition",
                    broker=broker_id,
                    topic=known.name if known is not None else None,
                    partition=refusal.partition_index,
                    code=ErrorCode(refusal.error_code).name,
                )
    if offline:
        log.error("replicas are offline", broker=broker_id, partitions=len(offline))
    return offline
