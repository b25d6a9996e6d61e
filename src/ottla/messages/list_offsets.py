"""ListOffsets, API key 2, versions 1-11."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, int64, since, string


class ListOffsetsPartition(Message):
    """List offsets partition."""

    partition_index: int = int32(default=0)
    current_leader_epoch: int = int32(default=-1, versions=since(4))
    timestamp: int = int64(default=0)


class ListOffsetsTopic(Message):
    """List offsets topic."""

    name: str = string(default="")
    partitions: list[ListOffsetsPartition] = array(ListOffsetsPartition, default=list)


class ListOffsetsRequest(Message, key=2, versions=(1, 11), flexible_from=6):
    """Kafka's ``ListOffsetsRequest``."""

    replica_id: int = int32(default=0)
    isolation_level: int = int8(default=0, versions=since(2))
    topics: list[ListOffsetsTopic] = array(ListOffsetsTopic, default=list)
    timeout_ms: int = int32(default=0, versions=since(10))


class ListOffsetsPartitionResponse(Message):
    """List offsets partition response."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)
    timestamp: int = int64(default=-1)
    offset: int = int64(default=-1)
    leader_epoch: int = int32(default=-1, versions=since(4))


class ListOffsetsTopicResponse(Message):
    """List offsets topic response."""

    name: str = string(default="")
    partitions: list[ListOffsetsPartitionResponse] = array(
        ListOffsetsPartitionResponse, default=list
    )


class ListOffsetsResponse(Message, key=2, versions=(1, 11), flexible_from=6):
    """Kafka's ``ListOffsetsResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(2))
    topics: list[ListOffsetsTopicResponse] = array(ListOffsetsTopicResponse, default=list)
