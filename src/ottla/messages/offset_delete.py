"""OffsetDelete, API key 47, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, string


class OffsetDeleteRequestPartition(Message):
    """Offset delete request partition."""

    partition_index: int = int32(default=0)


class OffsetDeleteRequestTopic(Message):
    """Offset delete request topic."""

    name: str = string(default="")
    partitions: list[OffsetDeleteRequestPartition] = array(
        OffsetDeleteRequestPartition, default=list
    )


class OffsetDeleteRequest(Message, key=47, versions=(0, 0)):
    """Kafka's ``OffsetDeleteRequest``."""

    group_id: str = string(default="")
    topics: list[OffsetDeleteRequestTopic] = array(OffsetDeleteRequestTopic, default=list)


class OffsetDeleteResponsePartition(Message):
    """Offset delete response partition."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)


class OffsetDeleteResponseTopic(Message):
    """Offset delete response topic."""

    name: str = string(default="")
    partitions: list[OffsetDeleteResponsePartition] = array(
        OffsetDeleteResponsePartition, default=list
    )


class OffsetDeleteResponse(Message, key=47, versions=(0, 0)):
    """Kafka's ``OffsetDeleteResponse``."""

    error_code: int = int16(default=0)
    throttle_time_ms: int = int32(default=0)
    topics: list[OffsetDeleteResponseTopic] = array(OffsetDeleteResponseTopic, default=list)
