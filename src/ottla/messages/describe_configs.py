"""DescribeConfigs, API key 32, versions 1-4."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int8, int16, int32, since, string


class DescribeConfigsResource(Message):
    """Describe configs resource."""

    resource_type: int = int8(default=0)
    resource_name: str = string(default="")
    configuration_keys: list[str] | None = array(string, default=list, nullable=since(0))


class DescribeConfigsRequest(Message, key=32, versions=(1, 4), flexible_from=4):
    """Kafka's ``DescribeConfigsRequest``."""

    resources: list[DescribeConfigsResource] = array(DescribeConfigsResource, default=list)
    include_synonyms: bool = boolean(default=False)
    include_documentation: bool = boolean(default=False, versions=since(3))


class DescribeConfigsSynonym(Message):
    """Describe configs synonym."""

    name: str = string(default="")
    value: str | None = string(default="", nullable=since(0))
    source: int = int8(default=0)


class DescribeConfigsResourceResult(Message):
    """Describe configs resource result."""

    name: str = string(default="")
    value: str | None = string(default="", nullable=since(0))
    read_only: bool = boolean(default=False)
    config_source: int = int8(default=-1)
    is_sensitive: bool = boolean(default=False)
    synonyms: list[DescribeConfigsSynonym] = array(DescribeConfigsSynonym, default=list)
    config_type: int = int8(default=0, versions=since(3))
    documentation: str | None = string(default="", versions=since(3), nullable=since(0))


class DescribeConfigsResult(Message):
    """Describe configs result."""

    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    resource_type: int = int8(default=0)
    resource_name: str = string(default="")
    configs: list[DescribeConfigsResourceResult] = array(
        DescribeConfigsResourceResult, default=list
    )


class DescribeConfigsResponse(Message, key=32, versions=(1, 4), flexible_from=4):
    """Kafka's ``DescribeConfigsResponse``."""

    throttle_time_ms: int = int32(default=0)
    results: list[DescribeConfigsResult] = array(DescribeConfigsResult, default=list)
