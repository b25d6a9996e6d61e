"""OffsetCommit, API key 8, versions 2-10."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, int16, int32, int64, since, string, uuid


class OffsetCommitRequestPartition(Message):
    """Offset commit request partition."""

    partition_index: int = int32(default=0)
    committed_offset: int = int64(default=0)
    committed_leader_epoch: int = int32(default=-1, versions=since(6))
    committed_metadata: str | None = string(default="", nullable=since(0))


class OffsetCommitRequestTopic(Message):
    """Offset commit request topic."""

    name: str = string(default="", versions=V(0, 9))
    topic_id: bytes = uuid(default=bytes(16), versions=since(10))
    partitions: list[OffsetCommitRequestPartition] = array(
        OffsetCommitRequestPartition, default=list
    )


class OffsetCommitRequest(Message, key=8, versions=(2, 10), flexible_from=8):
    """Kafka's ``OffsetCommitRequest``."""

    group_id: str = string(default="")
    generation_id_or_member_epoch: int = int32(default=-1)
    member_id: str = string(default="")
    group_instance_id: str | None = string(default=None, versions=since(7), nullable=since(7))
    retention_time_ms: int = int64(default=-1, versions=V(2, 4))
    topics: list[OffsetCommitRequestTopic] = array(OffsetCommitRequestTopic, default=list)


class OffsetCommitResponsePartition(Message):
    """Offset commit response partition."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)


class OffsetCommitResponseTopic(Message):
    """Offset commit response topic."""

    name: str = string(default="", versions=V(0, 9))
    topic_id: bytes = uuid(default=bytes(16), versions=since(10))
    partitions: list[OffsetCommitResponsePartition] = array(
        OffsetCommitResponsePartition, default=list
    )


class OffsetCommitResponse(Message, key=8, versions=(2, 10), flexible_from=8):
    """Kafka's ``OffsetCommitResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(3))
    topics: list[OffsetCommitResponseTopic] = array(OffsetCommitResponseTopic, default=list)
