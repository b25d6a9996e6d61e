"""ElectLeaders, API key 43, versions 0-2."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, since, string


class TopicPartitions(Message):
    """Topic partitions."""

    topic: str = string(default="")
    partitions: list[int] = array(int32, default=list)


class ElectLeadersRequest(Message, key=43, versions=(0, 2), flexible_from=2):
    """Kafka's ``ElectLeadersRequest``."""

    election_type: int = int8(default=0, versions=since(1))
    topic_partitions: list[TopicPartitions] | None = array(
        TopicPartitions, default=list, nullable=since(0)
    )
    timeout_ms: int = int32(default=60000)


class PartitionResult(Message):
    """Partition result."""

    partition_id: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))


class ReplicaElectionResult(Message):
    """Replica election result."""

    topic: str = string(default="")
    partition_result: list[PartitionResult] = array(PartitionResult, default=list)


class ElectLeadersResponse(Message, key=43, versions=(0, 2), flexible_from=2):
    """Kafka's ``ElectLeadersResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0, versions=since(1))
    replica_election_results: list[ReplicaElectionResult] = array(
        ReplicaElectionResult, default=list
    )
