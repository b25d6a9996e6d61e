"""OffsetFetch, API key 9, versions 1-10."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, boolean, int16, int32, int64, since, string, uuid


class OffsetFetchRequestTopic(Message):
    """Offset fetch request topic."""

    name: str = string(default="", versions=V(0, 7))
    partition_indexes: list[int] = array(int32, default=list, versions=V(0, 7))


class OffsetFetchRequestTopics(Message):
    """Offset fetch request topics."""

    name: str = string(default="", versions=V(8, 9))
    topic_id: bytes = uuid(default=bytes(16), versions=since(10))
    partition_indexes: list[int] = array(int32, default=list, versions=since(8))


class OffsetFetchRequestGroup(Message):
    """Offset fetch request group."""

    group_id: str = string(default="", versions=since(8))
    member_id: str | None = string(default=None, versions=since(9), nullable=since(9))
    member_epoch: int = int32(default=-1, versions=since(9))
    topics: list[OffsetFetchRequestTopics] | None = array(
        OffsetFetchRequestTopics, default=list, versions=since(8), nullable=since(8)
    )


class OffsetFetchRequest(Message, key=9, versions=(1, 10), flexible_from=6):
    """Kafka's ``OffsetFetchRequest``."""

    group_id: str = string(default="", versions=V(0, 7))
    topics: list[OffsetFetchRequestTopic] | None = array(
        OffsetFetchRequestTopic, default=list, versions=V(0, 7), nullable=V(2, 7)
    )
    groups: list[OffsetFetchRequestGroup] = array(
        OffsetFetchRequestGroup, default=list, versions=since(8)
    )
    require_stable: bool = boolean(default=False, versions=since(7))


class OffsetFetchResponsePartition(Message):
    """Offset fetch response partition."""

    partition_index: int = int32(default=0, versions=V(0, 7))
    committed_offset: int = int64(default=0, versions=V(0, 7))
    committed_leader_epoch: int = int32(default=-1, versions=V(5, 7))
    metadata: str | None = string(default="", versions=V(0, 7), nullable=V(0, 7))
    error_code: int = int16(default=0, versions=V(0, 7))


class OffsetFetchResponseTopic(Message):
    """Offset fetch response topic."""

    name: str = string(default="", versions=V(0, 7))
    partitions: list[OffsetFetchResponsePartition] = array(
        OffsetFetchResponsePartition, default=list, versions=V(0, 7)
    )


class OffsetFetchResponsePartitions(Message):
    """Offset fetch response partitions."""

    partition_index: int = int32(default=0, versions=since(8))
    committed_offset: int = int64(default=0, versions=since(8))
    committed_leader_epoch: int = int32(default=-1, versions=since(8))
    metadata: str | None = string(default="", versions=since(8), nullable=since(8))
    error_code: int = int16(default=0, versions=since(8))


class OffsetFetchResponseTopics(Message):
    """Offset fetch response topics."""

    name: str = string(default="", versions=V(8, 9))
    topic_id: bytes = uuid(default=bytes(16), versions=since(10))
    partitions: list[OffsetFetchResponsePartitions] = array(
        OffsetFetchResponsePartitions, default=list, versions=since(8)
    )


class OffsetFetchResponseGroup(Message):
    """Offset fetch response group."""

    group_id: str = string(default="", versions=since(8))
    topics: list[OffsetFetchResponseTopics] = array(
        OffsetFetchResponseTopics, default=list, versions=since(8)
    )
    error_code: int = int16(default=0, versions=since(8))


class OffsetFetchResponse(Message, key=9, versions=(1, 10), flexible_from=6):
    """Kafka's ``OffsetFetchResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(3))
    topics: list[OffsetFetchResponseTopic] = array(
        OffsetFetchResponseTopic, default=list, versions=V(0, 7)
    )
    error_code: int = int16(default=0, versions=V(2, 7))
    groups: list[OffsetFetchResponseGroup] = array(
        OffsetFetchResponseGroup, default=list, versions=since(8)
    )
