"""Metadata, API key 3, versions 0-13."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, boolean, int16, int32, since, string, uuid


class MetadataRequestTopic(Message):
    """Metadata request topic."""

    topic_id: bytes = uuid(default=bytes(16), versions=since(10))
    name: str | None = string(default="", nullable=since(10))


class MetadataRequest(Message, key=3, versions=(0, 13), flexible_from=9):
    """Kafka's ``MetadataRequest``."""

    topics: list[MetadataRequestTopic] | None = array(
        MetadataRequestTopic, default=list, nullable=since(1)
    )
    allow_auto_topic_creation: bool = boolean(default=True, versions=since(4))
    include_cluster_authorized_operations: bool = boolean(default=False, versions=V(8, 10))
    include_topic_authorized_operations: bool = boolean(default=False, versions=since(8))


class MetadataResponseBroker(Message):
    """Metadata response broker."""

    node_id: int = int32(default=0)
    host: str = string(default="")
    port: int = int32(default=0)
    rack: str | None = string(default=None, versions=since(1), nullable=since(1))


class MetadataResponsePartition(Message):
    """Metadata response partition."""

    error_code: int = int16(default=0)
    partition_index: int = int32(default=0)
    leader_id: int = int32(default=0)
    leader_epoch: int = int32(default=-1, versions=since(7))
    replica_nodes: list[int] = array(int32, default=list)
    isr_nodes: list[int] = array(int32, default=list)
    offline_replicas: list[int] = array(int32, default=list, versions=since(5))


class MetadataResponseTopic(Message):
    """Metadata response topic."""

    error_code: int = int16(default=0)
    name: str | None = string(default="", nullable=since(12))
    topic_id: bytes = uuid(default=bytes(16), versions=since(10))
    is_internal: bool = boolean(default=False, versions=since(1))
    partitions: list[MetadataResponsePartition] = array(MetadataResponsePartition, default=list)
    topic_authorized_operations: int = int32(default=-2147483648, versions=since(8))


class MetadataResponse(Message, key=3, versions=(0, 13), flexible_from=9):
    """Kafka's ``MetadataResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(3))
    brokers: list[MetadataResponseBroker] = array(MetadataResponseBroker, default=list)
    cluster_id: str | None = string(default=None, versions=since(2), nullable=since(2))
    controller_id: int = int32(default=-1, versions=since(1))
    topics: list[MetadataResponseTopic] = array(MetadataResponseTopic, default=list)
    cluster_authorized_operations: int = int32(default=-2147483648, versions=V(8, 10))
    error_code: int = int16(default=0, versions=since(13))
