"""ApiVersions, API key 18, versions 0-5.

Version 5 names the cluster and the broker that the client means to talk to (KIP-1242): a broker that is
another one answers REBOOTSTRAP_REQUIRED.
"""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int16, int32, int64, since, string


class ApiVersionsRequest(Message, key=18, versions=(0, 5), flexible_from=3):
    """Kafka's ``ApiVersionsRequest``."""

    client_software_name: str = string(default="", versions=since(3))
    client_software_version: str = string(default="", versions=since(3))
    cluster_id: str | None = string(default=None, versions=since(5), nullable=since(5))
    node_id: int = int32(default=-1, versions=since(5))


class ApiVersion(Message):
    """Api version."""

    api_key: int = int16(default=0)
    min_version: int = int16(default=0)
    max_version: int = int16(default=0)


class SupportedFeatureKey(Message):
    """Supported feature key."""

    name: str = string(default="", versions=since(3))
    min_version: int = int16(default=0, versions=since(3))
    max_version: int = int16(default=0, versions=since(3))


class FinalizedFeatureKey(Message):
    """Finalized feature key."""

    name: str = string(default="", versions=since(3))
    max_version_level: int = int16(default=0, versions=since(3))
    min_version_level: int = int16(default=0, versions=since(3))


class ApiVersionsResponse(Message, key=18, versions=(0, 5), flexible_from=3):
    """Kafka's ``ApiVersionsResponse``."""

    error_code: int = int16(default=0)
    api_keys: list[ApiVersion] = array(ApiVersion, default=list)
    throttle_time_ms: int = int32(default=0, versions=since(1))
    supported_features: list[SupportedFeatureKey] = array(
        SupportedFeatureKey, default=list, versions=since(3), tag=0
    )
    finalized_features_epoch: int = int64(default=-1, versions=since(3), tag=1)
    finalized_features: list[FinalizedFeatureKey] = array(
        FinalizedFeatureKey, default=list, versions=since(3), tag=2
    )
    zk_migration_ready: bool = boolean(default=False, versions=since(3), tag=3)
