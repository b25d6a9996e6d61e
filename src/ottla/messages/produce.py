"""Produce, API key 0, versions 3-13."""

from __future__ import annotations

from ottla.wire.schema import (
    Message,
    Records,
    V,
    array,
    int16,
    int32,
    int64,
    records,
    since,
    string,
    struct,
    uuid,
)


class PartitionProduceData(Message):
    """Partition produce data."""

    index: int = int32(default=0)
    records: Records | None = records(default=None, nullable=since(0))


class TopicProduceData(Message):
    """Topic produce data."""

    name: str = string(default="", versions=V(0, 12))
    topic_id: bytes = uuid(default=bytes(16), versions=since(13))
    partition_data: list[PartitionProduceData] = array(PartitionProduceData, default=list)


class ProduceRequest(Message, key=0, versions=(3, 13), flexible_from=9):
    """Kafka's ``ProduceRequest``."""

    transactional_id: str | None = string(default=None, nullable=since(3))
    acks: int = int16(default=0)
    timeout_ms: int = int32(default=0)
    topic_data: list[TopicProduceData] = array(TopicProduceData, default=list)


class BatchIndexAndErrorMessage(Message):
    """Batch index and error message."""

    batch_index: int = int32(default=0, versions=since(8))
    batch_index_error_message: str | None = string(
        default=None, versions=since(8), nullable=since(8)
    )


class LeaderIdAndEpoch(Message):
    """Leader id and epoch."""

    leader_id: int = int32(default=-1, versions=since(10))
    leader_epoch: int = int32(default=-1, versions=since(10))


class PartitionProduceResponse(Message):
    """Partition produce response."""

    index: int = int32(default=0)
    error_code: int = int16(default=0)
    base_offset: int = int64(default=0)
    log_append_time_ms: int = int64(default=-1)
    log_start_offset: int = int64(default=-1, versions=since(5))
    record_errors: list[BatchIndexAndErrorMessage] = array(
        BatchIndexAndErrorMessage, default=list, versions=since(8)
    )
    error_message: str | None = string(default=None, versions=since(8), nullable=since(8))
    current_leader: LeaderIdAndEpoch | None = struct(
        LeaderIdAndEpoch, default=None, versions=since(10), tag=0
    )


class TopicProduceResponse(Message):
    """Topic produce response."""

    name: str = string(default="", versions=V(0, 12))
    topic_id: bytes = uuid(default=bytes(16), versions=since(13))
    partition_responses: list[PartitionProduceResponse] = array(
        PartitionProduceResponse, default=list
    )


class NodeEndpoint(Message):
    """Node endpoint."""

    node_id: int = int32(default=0, versions=since(10))
    host: str = string(default="", versions=since(10))
    port: int = int32(default=0, versions=since(10))
    rack: str | None = string(default=None, versions=since(10), nullable=since(10))


class ProduceResponse(Message, key=0, versions=(3, 13), flexible_from=9):
    """Kafka's ``ProduceResponse``."""

    responses: list[TopicProduceResponse] = array(TopicProduceResponse, default=list)
    throttle_time_ms: int = int32(default=0)
    node_endpoints: list[NodeEndpoint] = array(
        NodeEndpoint, default=list, versions=since(10), tag=0
    )
