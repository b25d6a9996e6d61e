"""IncrementalAlterConfigs, API key 44, versions 0-1."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int8, int16, int32, since, string


class AlterableConfig(Message):
    """Alterable config."""

    name: str = string()
    config_operation: int = int8()
    value: str | None = string(nullable=since(0))


class AlterConfigsResource(Message):
    """Alter configs resource."""

    resource_type: int = int8()
    resource_name: str = string()
    configs: list[AlterableConfig] = array(AlterableConfig)


class IncrementalAlterConfigsRequest(Message, key=44, versions=(0, 1), flexible_from=1):
    """Kafka's ``IncrementalAlterConfigsRequest``."""

    resources: list[AlterConfigsResource] = array(AlterConfigsResource)
    validate_only: bool = boolean()


class AlterConfigsResourceResponse(Message):
    """Alter configs resource response."""

    error_code: int = int16()
    error_message: str | None = string(nullable=since(0))
    resource_type: int = int8()
    resource_name: str = string()


class IncrementalAlterConfigsResponse(Message, key=44, versions=(0, 1), flexible_from=1):
    """Kafka's ``IncrementalAlterConfigsResponse``."""

    throttle_time_ms: int = int32()
    responses: list[AlterConfigsResourceResponse] = array(AlterConfigsResourceResponse)
