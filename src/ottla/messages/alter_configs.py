"""AlterConfigs, API key 33, versions 0-2."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int8, int16, int32, since, string


class AlterableConfig(Message):
    """Alterable config."""

    name: str = string(default="")
    value: str | None = string(default="", nullable=since(0))


class AlterConfigsResource(Message):
    """Alter configs resource."""

    resource_type: int = int8(default=0)
    resource_name: str = string(default="")
    configs: list[AlterableConfig] = array(AlterableConfig, default=list)


class AlterConfigsRequest(Message, key=33, versions=(0, 2), flexible_from=2):
    """Kafka's ``AlterConfigsRequest``."""

    resources: list[AlterConfigsResource] = array(AlterConfigsResource, default=list)
    validate_only: bool = boolean(default=False)


class AlterConfigsResourceResponse(Message):
    """Alter configs resource response."""

    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    resource_type: int = int8(default=0)
    resource_name: str = string(default="")


class AlterConfigsResponse(Message, key=33, versions=(0, 2), flexible_from=2):
    """Kafka's ``AlterConfigsResponse``."""

    throttle_time_ms: int = int32(default=0)
    responses: list[AlterConfigsResourceResponse] = array(
        AlterConfigsResourceResponse, default=list
    )
