"""Committed offsets: read from and written to a group's coordinator.

Versions from 10 on name topics by id; one whose id is not known keeps the request at version 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ottla.client.cluster import Cluster
from ottla.client.consumer.group_link import GroupLink
from ottla.client.errors import CommitFailed
from ottla.client.types import OffsetAndMetadata, TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.network.channel import Channel
from ottla.topic_ids import ZERO_ID

OFFSET_COMMIT = 8
OFFSET_FETCH = 9
TOPIC_ID_VERSION = 10
_BATCHED_FETCH_VERSION = 8

_LOST_MEMBERSHIP = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.REBALANCE_IN_PROGRESS,
        ErrorCode.STALE_MEMBER_EPOCH,
    }
)
_AGAIN = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


class Identity(NamedTuple):
    """Who commits; a consumer without a membership is nobody in particular."""

    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None


class CommittedOffsets:
    """One group's offsets."""

    def __init__(self, cluster: Cluster, link: GroupLink) -> None:
        self._cluster = cluster
        self._link = link

    async def commit(
        self,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        identity: Identity,
        *,
        timeout_ms: float,
    ) -> None:
        """Write offsets; raises ``CommitFailed`` when the committer has lost its place in the group.

        Other ``KafkaError`` say why a partition's offset was refused, ``RequestTimeout`` that nobody answered.
        """
        if not offsets:
            return
        by_topic: dict[str, list[OffsetCommitRequestPartition]] = {}
        for (topic, partition), committed in offsets.items():
            by_topic.setdefault(topic, []).append(
                OffsetCommitRequestPartition(
                    partition_index=partition,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    committed_metadata=committed.metadata,
                )
            )

        def request(channel: Channel) -> tuple[OffsetCommitRequest, int]:
            version = self._version(channel, OFFSET_COMMIT, by_topic)
            topics = [
                OffsetCommitRequestTopic(
                    name=name,
                    topic_id=self._cluster.metadata.topic_id(name),
                    partitions=partitions,
                )
                for name, partitions in by_topic.items()
            ]
            message = OffsetCommitRequest(
                group_id=self._link.group,
                generation_id_or_member_epoch=identity.generation_id,
                member_id=identity.member_id,
                group_instance_id=identity.group_instance_id,
                topics=topics,
            )
            return message, version

        answer = await self._link.call(request, _commit_code, timeout_ms=timeout_ms)
        for topic in answer.topics:
            for partition in topic.partitions:
                if partition.error_code:
                    error = KafkaError(partition.error_code, f"commit of {topic.name}")
                    if error.code in _LOST_MEMBERSHIP:
                        raise CommitFailed(error.code, "the group has moved on: poll to rejoin it")
                    raise error

    async def fetch(
        self, partitions: Iterable[TopicPartition] | None, *, timeout_ms: float
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Read offsets (of all partitions with one, for None); those without one are left out."""
        by_topic: dict[str, list[int]] | None = None
        if partitions is not None:
            by_topic = {}
            for topic, number in partitions:
                by_topic.setdefault(topic, []).append(number)
            if not by_topic:
                return {}
        used: list[int] = []
        names: dict[bytes, str] = {}

        def request(channel: Channel) -> tuple[OffsetFetchRequest, int]:
            version = self._version(channel, OFFSET_FETCH, by_topic)
            used[:] = [version]
            names.update((self._cluster.metadata.topic_id(name), name) for name in by_topic or ())
            return self._fetch_request(by_topic), version

        answer = await self._link.call(
            request, lambda a: _fetch_code(a, used[0]), timeout_ms=timeout_ms
        )
        code = _fetch_code(answer, used[0])
        if code:
            raise KafkaError(code, f"offsets of group {self._link.group}")
        topics = answer.topics if used[0] < _BATCHED_FETCH_VERSION else answer.groups[0].topics
        found: dict[TopicPartition, OffsetAndMetadata] = {}
        for topic in topics:
            name = topic.name
            if used[0] >= TOPIC_ID_VERSION:
                # As it was asked: what the metadata forgot meanwhile is no offset that is missing.
                name = names.get(bytes(topic.topic_id))
            for partition in topic.partitions:
                if partition.error_code:
                    raise KafkaError(partition.error_code, f"{name}-{partition.partition_index}")
                if partition.committed_offset >= 0 and name is not None:
                    found[TopicPartition(name, partition.partition_index)] = OffsetAndMetadata(
                        partition.committed_offset,
                        partition.metadata or "",
                        partition.committed_leader_epoch,
                    )
        return found

    def _fetch_request(self, by_topic: dict[str, list[int]] | None) -> OffsetFetchRequest:
        old: list[OffsetFetchRequestTopic] | None = None
        new: list[OffsetFetchRequestTopics] | None = None
        if by_topic is not None:
            old = [
                OffsetFetchRequestTopic(name=n, partition_indexes=p) for n, p in by_topic.items()
            ]
            new = [
                OffsetFetchRequestTopics(
                    name=name,
                    topic_id=self._cluster.metadata.topic_id(name),
                    partition_indexes=numbers,
                )
                for name, numbers in by_topic.items()
            ]
        return OffsetFetchRequest(
            group_id=self._link.group,
            topics=old,
            groups=[OffsetFetchRequestGroup(group_id=self._link.group, topics=new)],
            require_stable=True,
        )

    def _version(self, channel: Channel, key: int, topics: Iterable[str] | None) -> int:
        by_id = topics is not None and all(
            self._cluster.metadata.topic_id(topic) != ZERO_ID for topic in topics
        )
        return channel.version_for(key, None if by_id else (0, TOPIC_ID_VERSION - 1))


def _commit_code(answer: Any) -> int:
    for topic in answer.topics:
        for partition in topic.partitions:
            if partition.error_code in _AGAIN:
                return _as_again(partition.error_code)
    return 0


def _fetch_code(answer: Any, version: int) -> int:
    if version < _BATCHED_FETCH_VERSION:
        code, topics = answer.error_code, answer.topics
    else:
        code, topics = answer.groups[0].error_code, answer.groups[0].topics
    if code:
        return int(code)
    for topic in topics:
        for partition in topic.partitions:
            if partition.error_code in _AGAIN:
                return _as_again(partition.error_code)
    return 0


def _as_again(code: int) -> int:
    """What can be asked again of the same coordinator looks like one that still loads."""
    if code in (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE):
        return code
    return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
