"""DeleteRecords, API key 21, versions 0-2."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, int64, string


class DeleteRecordsPartition(Message):
    """Delete records partition."""

    partition_index: int = int32(default=0)
    offset: int = int64(default=0)


class DeleteRecordsTopic(Message):
    """Delete records topic."""

    name: str = string(default="")
    partitions: list[DeleteRecordsPartition] = array(DeleteRecordsPartition, default=list)


class DeleteRecordsRequest(Message, key=21, versions=(0, 2), flexible_from=2):
    """Kafka's ``DeleteRecordsRequest``."""

    topics: list[DeleteRecordsTopic] = array(DeleteRecordsTopic, default=list)
    timeout_ms: int = int32(default=0)


class DeleteRecordsPartitionResult(Message):
    """Delete records partition result."""

    partition_index: int = int32(default=0)
    low_watermark: int = int64(default=0)
    error_code: int = int16(default=0)


class DeleteRecordsTopicResult(Message):
    """Delete records topic result."""

    name: str = string(default="")
    partitions: list[DeleteRecordsPartitionResult] = array(
        DeleteRecordsPartitionResult, default=list
    )


class DeleteRecordsResponse(Message, key=21, versions=(0, 2), flexible_from=2):
    """Kafka's ``DeleteRecordsResponse``."""

    throttle_time_ms: int = int32(default=0)
    topics: list[DeleteRecordsTopicResult] = array(DeleteRecordsTopicResult, default=list)
