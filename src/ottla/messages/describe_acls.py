"""DescribeAcls, API key 29, versions 1-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, since, string


class DescribeAclsRequest(Message, key=29, versions=(1, 3), flexible_from=2):
    """Kafka's ``DescribeAclsRequest``."""

    resource_type_filter: int = int8(default=0)
    resource_name_filter: str | None = string(default="", nullable=since(0))
    pattern_type_filter: int = int8(default=3)
    principal_filter: str | None = string(default="", nullable=since(0))
    host_filter: str | None = string(default="", nullable=since(0))
    operation: int = int8(default=0)
    permission_type: int = int8(default=0)


class AclDescription(Message):
    """Acl description."""

    principal: str = string(default="")
    host: str = string(default="")
    operation: int = int8(default=0)
    permission_type: int = int8(default=0)


class DescribeAclsResource(Message):
    """Describe acls resource."""

    resource_type: int = int8(default=0)
    resource_name: str = string(default="")
    pattern_type: int = int8(default=3)
    acls: list[AclDescription] = array(AclDescription, default=list)


class DescribeAclsResponse(Message, key=29, versions=(1, 3), flexible_from=2):
    """Kafka's ``DescribeAclsResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    resources: list[DescribeAclsResource] = array(DescribeAclsResource, default=list)
