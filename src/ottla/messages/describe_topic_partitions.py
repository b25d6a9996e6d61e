"""DescribeTopicPartitions, API key 75, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int16, int32, since, string, struct, uuid


class TopicRequest(Message):
    """Topic request."""

    name: str = string(default="")


class Cursor(Message):
    """Cursor."""

    topic_name: str = string(default="")
    partition_index: int = int32(default=0)


class DescribeTopicPartitionsRequest(Message, key=75, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeTopicPartitionsRequest``."""

    topics: list[TopicRequest] = array(TopicRequest, default=list)
    response_partition_limit: int = int32(default=2000)
    cursor: Cursor | None = struct(Cursor, default=None, nullable=since(0))


class DescribeTopicPartitionsResponsePartition(Message):
    """Describe topic partitions response partition."""

    error_code: int = int16(default=0)
    partition_index: int = int32(default=0)
    leader_id: int = int32(default=0)
    leader_epoch: int = int32(default=-1)
    replica_nodes: list[int] = array(int32, default=list)
    isr_nodes: list[int] = array(int32, default=list)
    eligible_leader_replicas: list[int] | None = array(int32, default=None, nullable=since(0))
    last_known_elr: list[int] | None = array(int32, default=None, nullable=since(0))
    offline_replicas: list[int] = array(int32, default=list)


class DescribeTopicPartitionsResponseTopic(Message):
    """Describe topic partitions response topic."""

    error_code: int = int16(default=0)
    name: str | None = string(default="", nullable=since(0))
    topic_id: bytes = uuid(default=bytes(16))
    is_internal: bool = boolean(default=False)
    partitions: list[DescribeTopicPartitionsResponsePartition] = array(
        DescribeTopicPartitionsResponsePartition, default=list
    )
    topic_authorized_operations: int = int32(default=-2147483648)


class DescribeTopicPartitionsResponse(Message, key=75, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeTopicPartitionsResponse``."""

    throttle_time_ms: int = int32(default=0)
    topics: list[DescribeTopicPartitionsResponseTopic] = array(
        DescribeTopicPartitionsResponseTopic, default=list
    )
    next_cursor: Cursor | None = struct(Cursor, default=None, nullable=since(0))
