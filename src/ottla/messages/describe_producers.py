"""DescribeProducers, API key 61, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, int64, since, string


class TopicRequest(Message):
    """Topic request."""

    name: str = string(default="")
    partition_indexes: list[int] = array(int32, default=list)


class DescribeProducersRequest(Message, key=61, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeProducersRequest``."""

    topics: list[TopicRequest] = array(TopicRequest, default=list)


class ProducerState(Message):
    """Producer state."""

    producer_id: int = int64(default=0)
    producer_epoch: int = int32(default=0)
    last_sequence: int = int32(default=-1)
    last_timestamp: int = int64(default=-1)
    coordinator_epoch: int = int32(default=0)
    current_txn_start_offset: int = int64(default=-1)


class PartitionResponse(Message):
    """Partition response."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default=None, nullable=since(0))
    active_producers: list[ProducerState] = array(ProducerState, default=list)


class TopicResponse(Message):
    """Topic response."""

    name: str = string(default="")
    partitions: list[PartitionResponse] = array(PartitionResponse, default=list)


class DescribeProducersResponse(Message, key=61, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeProducersResponse``."""

    throttle_time_ms: int = int32(default=0)
    topics: list[TopicResponse] = array(TopicResponse, default=list)
