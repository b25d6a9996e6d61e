"""UpdateMetadata, API key 6, versions 0-8."""

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


class UpdateMetadataPartitionState(Message):
    """Update metadata partition state."""

    topic_name: str = string(default="", versions=V(0, 4))
    partition_index: int = int32(default=0)
    controller_epoch: int = int32(default=0)
    leader: int = int32(default=0)
    leader_epoch: int = int32(default=0)
    isr: list[int] = array(int32, default=list)
    zk_version: int = int32(default=0)
    replicas: list[int] = array(int32, default=list)
    offline_replicas: list[int] = array(int32, default=list, versions=since(4))


class UpdateMetadataTopicState(Message):
    """Update metadata topic state."""

    topic_name: str = string(default="", versions=since(5))
    topic_id: bytes = uuid(default=bytes(16), versions=since(7))
    partition_states: list[UpdateMetadataPartitionState] = array(
        UpdateMetadataPartitionState, default=list, versions=since(5)
    )


class UpdateMetadataEndpoint(Message):
    """Update metadata endpoint."""

    port: int = int32(default=0, versions=since(1))
    host: str = string(default="", versions=since(1))
    listener: str = string(default="", versions=since(3))
    security_protocol: int = int16(default=0, versions=since(1))


class UpdateMetadataBroker(Message):
    """Update metadata broker."""

    id: int = int32(default=0)
    v0_host: str = string(default="", versions=V(0, 0))
    v0_port: int = int32(default=0, versions=V(0, 0))
    endpoints: list[UpdateMetadataEndpoint] = array(
        UpdateMetadataEndpoint, default=list, versions=since(1)
    )
    rack: str | None = string(default="", versions=since(2), nullable=since(0))


class UpdateMetadataRequest(Message, key=6, versions=(0, 8), flexible_from=6):
    """Kafka's ``UpdateMetadataRequest``."""

    controller_id: int = int32(default=0)
    is_k_raft_controller: bool = boolean(default=False, versions=since(8))
    type: int = int8(default=0, versions=since(8), tag=0)
    controller_epoch: int = int32(default=0)
    broker_epoch: int = int64(default=-1, versions=since(5))
    ungrouped_partition_states: list[UpdateMetadataPartitionState] = array(
        UpdateMetadataPartitionState, default=list, versions=V(0, 4)
    )
    topic_states: list[UpdateMetadataTopicState] = array(
        UpdateMetadataTopicState, default=list, versions=since(5)
    )
    live_brokers: list[UpdateMetadataBroker] = array(UpdateMetadataBroker, default=list)


class UpdateMetadataResponse(Message, key=6, versions=(0, 8), flexible_from=6):
    """Kafka's ``UpdateMetadataResponse``."""

    error_code: int = int16(default=0)
