"""OffsetCommit, API key 8, versions 2-10."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, int16, int32, int64, since, string, uuid


class OffsetCommitRequestPartition(Message):
    """Offset commit request partition."""

    partition_index: int = int32()
    committed_offset: int = int64()
    committed_leader_epoch: int = int32(default=-1, versions=since(6))
    committed_metadata: str | None = string(nullable=since(0))


class OffsetCommitRequestTopic(Message):
    """Offset commit request topic."""

    name: str = string(versions=V(0, 9))
    topic_id: bytes = uuid(versions=since(10))
    partitions: list[OffsetCommitRequestPartition] = array(OffsetCommitRequestPartition)


class OffsetCommitRequest(Message, key=8, versions=(2, 10), flexible_from=8):
    """Kafka's ``OffsetCommitRequest``."""

    group_id: str = string()
    generation_id_or_member_epoch: int = int32(default=-1)
    member_id: str = string()
    group_instance_id: str | None = string(default=None, versions=since(7), nullable=since(7))
    retention_time_ms: int = int64(default=-1, versions=V(2, 4))
    topics: list[OffsetCommitRequestTopic] = array(OffsetCommitRequestTopic)


class OffsetCommitResponsePartition(Message):
    """Offset commit response partition."""

    partition_index: int = int32()
    error_code: int = int16()


class OffsetCommitResponseTopic(Message):
    """Offset commit response topic."""

    name: str = string(versions=V(0, 9))
    topic_id: bytes = uuid(versions=since(10))
    partitions: list[OffsetCommitResponsePartition] = array(OffsetCommitResponsePartition)


class OffsetCommitResponse(Message, key=8, versions=(2, 10), flexible_from=8):
    """Kafka's ``OffsetCommitResponse``."""

    throttle_time_ms: int = int32(versions=since(3))
    topics: list[OffsetCommitResponseTopic] = array(OffsetCommitResponseTopic)
