"""AlterPartition, API key 56, versions 0-3."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, int8, int16, int32, int64, since, string, uuid


class AlterPartitionBrokerState(Message):
    """Alter partition broker state."""

    broker_id: int = int32(default=0, versions=since(3))
    broker_epoch: int = int64(default=-1, versions=since(3))


class AlterPartitionPartitionData(Message):
    """Alter partition partition data."""

    partition_index: int = int32(default=0)
    leader_epoch: int = int32(default=0)
    new_isr: list[int] = array(int32, default=list, versions=V(0, 2))
    new_isr_with_epochs: list[AlterPartitionBrokerState] = array(
        AlterPartitionBrokerState, default=list, versions=since(3)
    )
    leader_recovery_state: int = int8(default=0, versions=since(1))
    partition_epoch: int = int32(default=0)


class AlterPartitionTopicData(Message):
    """Alter partition topic data."""

    topic_name: str = string(default="", versions=V(0, 1))
    topic_id: bytes = uuid(default=bytes(16), versions=since(2))
    partitions: list[AlterPartitionPartitionData] = array(AlterPartitionPartitionData, default=list)


class AlterPartitionRequest(Message, key=56, versions=(0, 3), flexible_from=0):
    """Kafka's ``AlterPartitionRequest``."""

    broker_id: int = int32(default=0)
    broker_epoch: int = int64(default=-1)
    topics: list[AlterPartitionTopicData] = array(AlterPartitionTopicData, default=list)


class AlterPartitionResponsePartitionData(Message):
    """Alter partition response partition data."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)
    leader_id: int = int32(default=0)
    leader_epoch: int = int32(default=0)
    isr: list[int] = array(int32, default=list)
    leader_recovery_state: int = int8(default=0, versions=since(1))
    partition_epoch: int = int32(default=0)


class AlterPartitionResponseTopicData(Message):
    """Alter partition response topic data."""

    topic_name: str = string(default="", versions=V(0, 1))
    topic_id: bytes = uuid(default=bytes(16), versions=since(2))
    partitions: list[AlterPartitionResponsePartitionData] = array(
        AlterPartitionResponsePartitionData, default=list
    )


class AlterPartitionResponse(Message, key=56, versions=(0, 3), flexible_from=0):
    """Kafka's ``AlterPartitionResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    topics: list[AlterPartitionResponseTopicData] = array(
        AlterPartitionResponseTopicData, default=list
    )
