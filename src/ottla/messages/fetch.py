"""Fetch, API key 1, versions 4-18."""

from __future__ import annotations

from ottla.wire.schema import (
    Message,
    Records,
    V,
    array,
    int8,
    int16,
    int32,
    int64,
    records,
    since,
    string,
    struct,
    uuid,
)


class ReplicaState(Message):
    """Replica state."""

    replica_id: int = int32(default=-1, versions=since(15))
    replica_epoch: int = int64(default=-1, versions=since(15))


class FetchPartition(Message):
    """Fetch partition."""

    partition: int = int32(default=0)
    current_leader_epoch: int = int32(default=-1, versions=since(9))
    fetch_offset: int = int64(default=0)
    last_fetched_epoch: int = int32(default=-1, versions=since(12))
    log_start_offset: int = int64(default=-1, versions=since(5))
    partition_max_bytes: int = int32(default=0)
    replica_directory_id: bytes = uuid(default=bytes(16), versions=since(17), tag=0)
    high_watermark: int = int64(default=9223372036854775807, versions=since(18), tag=1)


class FetchTopic(Message):
    """Fetch topic."""

    topic: str = string(default="", versions=V(0, 12))
    topic_id: bytes = uuid(default=bytes(16), versions=since(13))
    partitions: list[FetchPartition] = array(FetchPartition, default=list)


class ForgottenTopic(Message):
    """Forgotten topic."""

    topic: str = string(default="", versions=V(7, 12))
    topic_id: bytes = uuid(default=bytes(16), versions=since(13))
    partitions: list[int] = array(int32, default=list, versions=since(7))


class FetchRequest(Message, key=1, versions=(4, 18), flexible_from=12):
    """Kafka's ``FetchRequest``."""

    cluster_id: str | None = string(default=None, versions=since(12), nullable=since(12), tag=0)
    replica_id: int = int32(default=-1, versions=V(0, 14))
    replica_state: ReplicaState | None = struct(
        ReplicaState, default=None, versions=since(15), tag=1
    )
    max_wait_ms: int = int32(default=0)
    min_bytes: int = int32(default=0)
    max_bytes: int = int32(default=2147483647)
    isolation_level: int = int8(default=0)
    session_id: int = int32(default=0, versions=since(7))
    session_epoch: int = int32(default=-1, versions=since(7))
    topics: list[FetchTopic] = array(FetchTopic, default=list)
    forgotten_topics_data: list[ForgottenTopic] = array(
        ForgottenTopic, default=list, versions=since(7)
    )
    rack_id: str = string(default="", versions=since(11))


class EpochEndOffset(Message):
    """Epoch end offset."""

    epoch: int = int32(default=-1, versions=since(12))
    end_offset: int = int64(default=-1, versions=since(12))


class LeaderIdAndEpoch(Message):
    """Leader id and epoch."""

    leader_id: int = int32(default=-1, versions=since(12))
    leader_epoch: int = int32(default=-1, versions=since(12))


class SnapshotId(Message):
    """Snapshot id."""

    end_offset: int = int64(default=-1)
    epoch: int = int32(default=-1)


class AbortedTransaction(Message):
    """Aborted transaction."""

    producer_id: int = int64(default=0)
    first_offset: int = int64(default=0)


class PartitionData(Message):
    """Partition data."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)
    high_watermark: int = int64(default=0)
    last_stable_offset: int = int64(default=-1)
    log_start_offset: int = int64(default=-1, versions=since(5))
    diverging_epoch: EpochEndOffset | None = struct(
        EpochEndOffset, default=None, versions=since(12), tag=0
    )
    current_leader: LeaderIdAndEpoch | None = struct(
        LeaderIdAndEpoch, default=None, versions=since(12), tag=1
    )
    snapshot_id: SnapshotId | None = struct(SnapshotId, default=None, versions=since(12), tag=2)
    aborted_transactions: list[AbortedTransaction] | None = array(
        AbortedTransaction, default=list, nullable=since(4)
    )
    preferred_read_replica: int = int32(default=-1, versions=since(11))
    records: Records | None = records(default=None, nullable=since(0))


class FetchableTopicResponse(Message):
    """Fetchable topic response."""

    topic: str = string(default="", versions=V(0, 12))
    topic_id: bytes = uuid(default=bytes(16), versions=since(13))
    partitions: list[PartitionData] = array(PartitionData, default=list)


class NodeEndpoint(Message):
    """Node endpoint."""

    node_id: int = int32(default=0, versions=since(16))
    host: str = string(default="", versions=since(16))
    port: int = int32(default=0, versions=since(16))
    rack: str | None = string(default=None, versions=since(16), nullable=since(16))


class FetchResponse(Message, key=1, versions=(4, 18), flexible_from=12):
    """Kafka's ``FetchResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0, versions=since(7))
    session_id: int = int32(default=0, versions=since(7))
    responses: list[FetchableTopicResponse] = array(FetchableTopicResponse, default=list)
    node_endpoints: list[NodeEndpoint] = array(
        NodeEndpoint, default=list, versions=since(16), tag=0
    )
