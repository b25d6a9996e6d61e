"""AlterPartitionReassignments, API key 45, versions 0-1."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int16, int32, since, string


class ReassignablePartition(Message):
    """Reassignable partition."""

    partition_index: int = int32(default=0)
    replicas: list[int] | None = array(int32, default=None, nullable=since(0))


class ReassignableTopic(Message):
    """Reassignable topic."""

    name: str = string(default="")
    partitions: list[ReassignablePartition] = array(ReassignablePartition, default=list)


class AlterPartitionReassignmentsRequest(Message, key=45, versions=(0, 1), flexible_from=0):
    """Kafka's ``AlterPartitionReassignmentsRequest``."""

    timeout_ms: int = int32(default=60000)
    allow_replication_factor_change: bool = boolean(default=True, versions=since(1))
    topics: list[ReassignableTopic] = array(ReassignableTopic, default=list)


class ReassignablePartitionResponse(Message):
    """Reassignable partition response."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))


class ReassignableTopicResponse(Message):
    """Reassignable topic response."""

    name: str = string(default="")
    partitions: list[ReassignablePartitionResponse] = array(
        ReassignablePartitionResponse, default=list
    )


class AlterPartitionReassignmentsResponse(Message, key=45, versions=(0, 1), flexible_from=0):
    """Kafka's ``AlterPartitionReassignmentsResponse``."""

    throttle_time_ms: int = int32(default=0)
    allow_replication_factor_change: bool = boolean(default=True, versions=since(1))
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    responses: list[ReassignableTopicResponse] = array(ReassignableTopicResponse, default=list)
