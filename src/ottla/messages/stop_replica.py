"""StopReplica, API key 5, versions 0-4."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, boolean, int16, int32, int64, since, string


class StopReplicaPartitionV0(Message):
    """Stop replica partition v0."""

    topic_name: str = string(default="", versions=V(0, 0))
    partition_index: int = int32(default=0, versions=V(0, 0))


class StopReplicaTopicV1(Message):
    """Stop replica topic v1."""

    name: str = string(default="", versions=V(1, 2))
    partition_indexes: list[int] = array(int32, default=list, versions=V(1, 2))


class StopReplicaPartitionState(Message):
    """Stop replica partition state."""

    partition_index: int = int32(default=0, versions=since(3))
    leader_epoch: int = int32(default=-1, versions=since(3))
    delete_partition: bool = boolean(default=False, versions=since(3))


class StopReplicaTopicState(Message):
    """Stop replica topic state."""

    topic_name: str = string(default="", versions=since(3))
    partition_states: list[StopReplicaPartitionState] = array(
        StopReplicaPartitionState, default=list, versions=since(3)
    )


class StopReplicaRequest(Message, key=5, versions=(0, 4), flexible_from=2):
    """Kafka's ``StopReplicaRequest``."""

    controller_id: int = int32(default=0)
    is_k_raft_controller: bool = boolean(default=False, versions=since(4))
    controller_epoch: int = int32(default=0)
    broker_epoch: int = int64(default=-1, versions=since(1))
    delete_partitions: bool = boolean(default=False, versions=V(0, 2))
    ungrouped_partitions: list[StopReplicaPartitionV0] = array(
        StopReplicaPartitionV0, default=list, versions=V(0, 0)
    )
    topics: list[StopReplicaTopicV1] = array(StopReplicaTopicV1, default=list, versions=V(1, 2))
    topic_states: list[StopReplicaTopicState] = array(
        StopReplicaTopicState, default=list, versions=since(3)
    )


class StopReplicaPartitionError(Message):
    """Stop replica partition error."""

    topic_name: str = string(default="")
    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)


class StopReplicaResponse(Message, key=5, versions=(0, 4), flexible_from=2):
    """Kafka's ``StopReplicaResponse``."""

    error_code: int = int16(default=0)
    partition_errors: list[StopReplicaPartitionError] = array(
        StopReplicaPartitionError, default=list
    )
