"""ListOffsets, API key 2, versions 1-11."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, int64, since, string


class ListOffsetsPartition(Message):
    """List offsets partition."""

    partition_index: int = int32()
    current_leader_epoch: int = int32(default=-1, versions=since(4))
    timestamp: int = int64()


class ListOffsetsTopic(Message):
    """List offsets topic."""

    name: str = string()
    partitions: list[ListOffsetsPartition] = array(ListOffsetsPartition)


class ListOffsetsRequest(Message, key=2, versions=(1, 11), flexible_from=6):
    """Kafka's ``ListOffsetsRequest``."""

    replica_id: int = int32()
    isolation_level: int = int8(versions=since(2))
    topics: list[ListOffsetsTopic] = array(ListOffsetsTopic)
    timeout_ms: int = int32(versions=since(10))


class ListOffsetsPartitionResponse(Message):
    """List offsets partition response."""

    partition_index: int = int32()
    error_code: int = int16()
    timestamp: int = int64(default=-1)
    offset: int = int64(default=-1)
    leader_epoch: int = int32(default=-1, versions=since(4))


class ListOffsetsTopicResponse(Message):
    """List offsets topic response."""

    name: str = string()
    partitions: list[ListOffsetsPartitionResponse] = array(ListOffsetsPartitionResponse)


class ListOffsetsResponse(Message, key=2, versions=(1, 11), flexible_from=6):
    """Kafka's ``ListOffsetsResponse``."""

    throttle_time_ms: int = int32(versions=since(2))
    topics: list[ListOffsetsTopicResponse] = array(ListOffsetsTopicResponse)
