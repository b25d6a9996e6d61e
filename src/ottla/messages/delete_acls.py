"""DeleteAcls, API key 31, versions 1-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, since, string


class DeleteAclsFilter(Message):
    """Delete acls filter."""

    resource_type_filter: int = int8(default=0)
    resource_name_filter: str | None = string(default="", nullable=since(0))
    pattern_type_filter: int = int8(default=3)
    principal_filter: str | None = string(default="", nullable=since(0))
    host_filter: str | None = string(default="", nullable=since(0))
    operation: int = int8(default=0)
    permission_type: int = int8(default=0)


class DeleteAclsRequest(Message, key=31, versions=(1, 3), flexible_from=2):
    """Kafka's ``DeleteAclsRequest``."""

    filters: list[DeleteAclsFilter] = array(DeleteAclsFilter, default=list)


class DeleteAclsMatchingAcl(Message):
    """Delete acls matching acl."""

    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    resource_type: int = int8(default=0)
    resource_name: str = string(default="")
    pattern_type: int = int8(default=3)
    principal: str = string(default="")
    host: str = string(default="")
    operation: int = int8(default=0)
    permission_type: int = int8(default=0)


class DeleteAclsFilterResult(Message):
    """Delete acls filter result."""

    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    matching_acls: list[DeleteAclsMatchingAcl] = array(DeleteAclsMatchingAcl, default=list)


class DeleteAclsResponse(Message, key=31, versions=(1, 3), flexible_from=2):
    """Kafka's ``DeleteAclsResponse``."""

    throttle_time_ms: int = int32(default=0)
    filter_results: list[DeleteAclsFilterResult] = array(DeleteAclsFilterResult, default=list)
