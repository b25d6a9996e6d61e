"""ListConfigResources, API key 74, versions 0-1."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, since, string


class ListConfigResourcesRequest(Message, key=74, versions=(0, 1), flexible_from=0):
    """Kafka's ``ListConfigResourcesRequest``."""

    resource_types: list[int] = array(int8, default=list, versions=since(1))


class ConfigResource(Message):
    """Config resource."""

    resource_name: str = string(default="")
    resource_type: int = int8(default=16, versions=since(1))


class ListConfigResourcesResponse(Message, key=74, versions=(0, 1), flexible_from=0):
    """Kafka's ``ListConfigResourcesResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    config_resources: list[ConfigResource] = array(ConfigResource, default=list)
