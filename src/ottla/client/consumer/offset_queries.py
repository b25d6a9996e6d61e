"""Questions to the partitions' leaders: which offset is at a time, and where an epoch ends.

Each question goes to the leader that the metadata name, all of one leader in one request. What can be
asked again is, after a fresh look at the metadata, until the time is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ottla.client.cluster import Cluster
from ottla.client.errors import RequestTimeout
from ottla.client.types import OffsetAndTimestamp, TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

Q = TypeVar("Q")
A = TypeVar("A")

MAX_TIMESTAMP = -3
"""Asks ListOffsets for the record with the largest timestamp (version 7, KIP-734)."""

_LIST_OFFSETS = 2
_MAX_TIMESTAMP_VERSION = 7


class EpochEnd(NamedTuple):
    """The largest epoch not above the one asked for, and where it ends; -1 for none."""

    epoch: int
    end_offset: int


async def list_offsets(
    cluster: Cluster,
    timestamps: Mapping[TopicPartition, int],
    *,
    read_committed: bool = False,
    timeout_ms: float,
    once: bool = False,
) -> dict[TopicPartition, OffsetAndTimestamp | None]:
    """For each partition the first record at or after a time; None where there is none.

    With ``once`` every leader is asked one time, and what it can't say now is left out.

    Times are in milliseconds, or ``EARLIEST_TIMESTAMP``, ``LATEST_TIMESTAMP``, ``MAX_TIMESTAMP``. Raises
    ``KafkaError`` for the first partition that cannot be answered for.
    """

    async def ask(
        node_id: int, questions: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | KafkaError | None]:
        topics: dict[str, list[ListOffsetsPartition]] = {}
        for (topic, partition), timestamp in questions.items():
            known = cluster.metadata.partition(topic, partition)
            epoch = known.leader_epoch if known is not None else -1
            topics.setdefault(topic, []).append(
                ListOffsetsPartition(
                    partition_index=partition, current_leader_epoch=epoch, timestamp=timestamp
                )
            )
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=int(read_committed),
            topics=[ListOffsetsTopic(name=name, partitions=p) for name, p in topics.items()],
            timeout_ms=cluster.settings.request_timeout_ms,
        )
        channel = await cluster.channel(node_id)
        version = channel.version_for(_LIST_OFFSETS)
        if MAX_TIMESTAMP in questions.values() and version < _MAX_TIMESTAMP_VERSION:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, "the broker knows no largest timestamp")
        timeout = cluster.settings.request_timeout_ms / 1000
        response = await channel.send(request, version=version, timeout=timeout)
        answers: dict[TopicPartition, OffsetAndTimestamp | KafkaError | None] = {}
        for topic in response.topics:
            for found in topic.partitions:
                asked = TopicPartition(topic.name, found.partition_index)
                if found.error_code:
                    answers[asked] = KafkaError(found.error_code, str(asked))
                elif found.offset < 0:
                    answers[asked] = None
                else:
                    answers[asked] = OffsetAndTimestamp(
                        found.offset, found.timestamp, found.leader_epoch
                    )
        return answers

    return await ask_leaders(cluster, timestamps, ask, timeout_ms, once=once)


async def epoch_ends(
    cluster: Cluster, epochs: Mapping[TopicPartition, int], *, timeout_ms: float
) -> dict[TopicPartition, EpochEnd]:
    """For each partition where an epoch ends in its leader's log (KIP-101, KIP-320).

    Every leader is asked one time; what it can't say now is left out.
    """

    async def ask(
        node_id: int, asked: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, EpochEnd | KafkaError]:
        topics: dict[str, list[OffsetForLeaderPartition]] = {}
        for (topic, partition), epoch in asked.items():
            known = cluster.metadata.partition(topic, partition)
            topics.setdefault(topic, []).append(
                OffsetForLeaderPartition(
                    partition=partition,
                    current_leader_epoch=known.leader_epoch if known is not None else -1,
                    leader_epoch=epoch,
                )
            )
        request = OffsetForLeaderEpochRequest(
            replica_id=-1,
            topics=[OffsetForLeaderTopic(topic=name, partitions=p) for name, p in topics.items()],
        )
        response = await cluster.send(node_id, request)
        answers: dict[TopicPartition, EpochEnd | KafkaError] = {}
        for topic in response.topics:
            for found in topic.partitions:
                answered = TopicPartition(topic.topic, found.partition)
                if found.error_code:
                    answers[answered] = KafkaError(found.error_code, str(answered))
                else:
                    answers[answered] = EpochEnd(found.leader_epoch, found.end_offset)
        return answers

    return await ask_leaders(cluster, epochs, ask, timeout_ms, once=True)


async def ask_leaders(
    cluster: Cluster,
    questions: Mapping[TopicPartition, Q],
    ask: Callable[
        [int, Mapping[TopicPartition, Q]], Awaitable[dict[TopicPartition, A | KafkaError]]
    ],
    timeout_ms: float,
    *,
    once: bool,
) -> dict[TopicPartition, A]:
    """Every partition's answer from its leader. Raises ``KafkaError``, ``RequestTimeout`` when time is up.

    With ``once`` those that come at the first attempt, for which every leader has the time of its request: one that
    stands still keeps nobody from the answers of the others.
    """
    left = dict(questions)
    answers: dict[TopicPartition, A] = {}
    reason = "no leader is known"
    try:
        with cluster.interest({topic for topic, _ in left}):
            async with asyncio.timeout(None if once else timeout_ms / 1000):
                while left:
                    by_node: dict[int, dict[TopicPartition, Q]] = {}
                    for partition, question in left.items():
                        node_id = cluster.metadata.leader_of(*partition)
                        if node_id is not None:
                            by_node.setdefault(node_id, {})[partition] = question
                    outcomes: list[Any] = await asyncio.gather(
                        *(ask(node_id, asked) for node_id, asked in by_node.items()),
                        return_exceptions=True,
                    )
                    reason = _take_answers(outcomes, answers) or reason
                    left = {p: question for p, question in left.items() if p not in answers}
                    if left and once:
                        cluster.request_refresh()
                        return answers
                    if left:
                        await cluster.refresh()
    except TimeoutError:
        names = ", ".join(map(str, left))
        raise RequestTimeout(f"{names}: {reason} within {timeout_ms:.0f} ms") from None
    return answers


def _take_answers(outcomes: list[Any], answers: dict[TopicPartition, A]) -> str:
    """Put into ``answers`` what has come; why others have not. Raises what will not pass."""
    reason = ""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            outcome = {TopicPartition("", -1): outcome}
        for partition, answer in outcome.items():
            if not isinstance(answer, BaseException):
                answers[partition] = answer
            elif isinstance(answer, KafkaError) and answer.retriable:
                reason = str(answer)
            else:
                raise answer
    return reason
