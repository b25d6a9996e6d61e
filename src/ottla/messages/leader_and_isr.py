"""LeaderAndIsr, API key 4, versions 0-7."""

from __future__ import annotations

from ottla.wire.schema import (
    Message,
    V,
    array,
    boolean,
    int8,
    int16,
    int32,
    int64,
    since,
    string,
    uuid,
)


class LeaderAndIsrPartitionState(Message):
    """Leader and isr partition state."""

    topic_name: str = string(default="", versions=V(0, 1))
    partition_index: int = int32(default=0)
    controller_epoch: int = int32(default=0)
    leader: int = int32(default=0)
    leader_epoch: int = int32(default=0)
    isr: list[int] = array(int32, default=list)
    partition_epoch: int = int32(default=0)
    replicas: list[int] = array(int32, default=list)
    adding_replicas: list[int] = array(int32, default=list, versions=since(3))
    removing_replicas: list[int] = array(int32, default=list, versions=since(3))
    is_new: bool = boolean(default=False, versions=since(1))
    leader_recovery_state: int = int8(default=0, versions=since(6))


class LeaderAndIsrTopicState(Message):
    """Leader and isr topic state."""

    topic_name: str = string(default="", versions=since(2))
    topic_id: bytes = uuid(default=bytes(16), versions=since(5))
    partition_states: list[LeaderAndIsrPartitionState] = array(
        LeaderAndIsrPartitionState, default=list, versions=since(2)
    )


class LeaderAndIsrLiveLeader(Message):
    """Leader and isr live leader."""

    broker_id: int = int32(default=0)
    host_name: str = string(default="")
    port: int = int32(default=0)


class LeaderAndIsrRequest(Message, key=4, versions=(0, 7), flexible_from=4):
    """Kafka's ``LeaderAndIsrRequest``."""

    controller_id: int = int32(default=0)
    is_k_raft_controller: bool = boolean(default=False, versions=since(7))
    controller_epoch: int = int32(default=0)
    broker_epoch: int = int64(default=-1, versions=since(2))
    type: int = int8(default=0, versions=since(5))
    ungrouped_partition_states: list[LeaderAndIsrPartitionState] = array(
        LeaderAndIsrPartitionState, default=list, versions=V(0, 1)
    )
    topic_states: list[LeaderAndIsrTopicState] = array(
        LeaderAndIsrTopicState, default=list, versions=since(2)
    )
    live_leaders: list[LeaderAndIsrLiveLeader] = array(LeaderAndIsrLiveLeader, default=list)


class LeaderAndIsrPartitionError(Message):
    """Leader and isr partition error."""

    topic_name: str = string(default="", versions=V(0, 4))
    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)


class LeaderAndIsrTopicError(Message):
    """Leader and isr topic error."""

    topic_id: bytes = uuid(default=bytes(16), versions=since(5))
    partition_errors: list[LeaderAndIsrPartitionError] = array(
        LeaderAndIsrPartitionError, default=list, versions=since(5)
    )


class LeaderAndIsrResponse(Message, key=4, versions=(0, 7), flexible_from=4):
    """Kafka's ``LeaderAndIsrResponse``."""

    error_code: int = int16(default=0)
    partition_errors: list[LeaderAndIsrPartitionError] = array(
        LeaderAndIsrPartitionError, default=list, versions=V(0, 4)
    )
    topics: list[LeaderAndIsrTopicError] = array(
        LeaderAndIsrTopicError, default=list, versions=since(5)
    )
