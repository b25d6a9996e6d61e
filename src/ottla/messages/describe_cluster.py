"""DescribeCluster, API key 60, versions 0-2."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int8, int16, int32, since, string


class DescribeClusterRequest(Message, key=60, versions=(0, 2), flexible_from=0):
    """Kafka's ``DescribeClusterRequest``."""

    include_cluster_authorized_operations: bool = boolean(default=False)
    endpoint_type: int = int8(default=1, versions=since(1))
    include_fenced_brokers: bool = boolean(default=False, versions=since(2))


class DescribeClusterBroker(Message):
    """Describe cluster broker."""

    broker_id: int = int32(default=0)
    host: str = string(default="")
    port: int = int32(default=0)
    rack: str | None = string(default=None, nullable=since(0))
    is_fenced: bool = boolean(default=False, versions=since(2))


class DescribeClusterResponse(Message, key=60, versions=(0, 2), flexible_from=0):
    """Kafka's ``DescribeClusterResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default=None, nullable=since(0))
    endpoint_type: int = int8(default=1, versions=since(1))
    cluster_id: str = string(default="")
    controller_id: int = int32(default=-1)
    brokers: list[DescribeClusterBroker] = array(DescribeClusterBroker, default=list)
    cluster_authorized_operations: int = int32(default=-2147483648)
