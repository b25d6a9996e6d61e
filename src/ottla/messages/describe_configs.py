"""DescribeConfigs, API key 32, versions 1-4."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int8, int16, int32, since, string


class DescribeConfigsResource(Message):
    """Describe configs resource."""

    resource_type: int = int8()
    resource_name: str = string()
    configuration_keys: list[str] | None = array(string, nullable=since(0))


class DescribeConfigsRequest(Message, key=32, versions=(1, 4), flexible_from=4):
    """Kafka's ``DescribeConfigsRequest``."""

    resources: list[DescribeConfigsResource] = array(DescribeConfigsResource)
    include_synonyms: bool = boolean(default=False)
    include_documentation: bool = boolean(default=False, versions=since(3))


class DescribeConfigsSynonym(Message):
    """Describe configs synonym."""

    name: str = string()
    value: str | None = string(nullable=since(0))
    source: int = int8()


class DescribeConfigsResourceResult(Message):
    """Describe configs resource result."""

    name: str = string()
    value: str | None = string(nullable=since(0))
    read_only: bool = boolean()
    config_source: int = int8(default=-1)
    is_sensitive: bool = boolean()
    synonyms: list[DescribeConfigsSynonym] = array(DescribeConfigsSynonym)
    config_type: int = int8(default=0, versions=since(3))
    documentation: str | None = string(versions=since(3), nullable=since(0))


class DescribeConfigsResult(Message):
    """Describe configs result."""

    error_code: int = int16()
    error_message: str | None = string(nullable=since(0))
    resource_type: int = int8()
    resource_name: str = string()
    configs: list[DescribeConfigsResourceResult] = array(DescribeConfigsResourceResult)


class DescribeConfigsResponse(Message, key=32, versions=(1, 4), flexible_from=4):
    """Kafka's ``DescribeConfigsResponse``."""

    throttle_time_ms: int = int32()
    results: list[DescribeConfigsResult] = array(DescribeConfigsResult)
