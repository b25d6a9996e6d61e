"""CreateAcls, API key 30, versions 1-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, since, string


class AclCreation(Message):
    """Acl creation."""

    resource_type: int = int8(default=0)
    resource_name: str = string(default="")
    resource_pattern_type: int = int8(default=3)
    principal: str = string(default="")
    host: str = string(default="")
    operation: int = int8(default=0)
    permission_type: int = int8(default=0)


class CreateAclsRequest(Message, key=30, versions=(1, 3), flexible_from=2):
    """Kafka's ``CreateAclsRequest``."""

    creations: list[AclCreation] = array(AclCreation, default=list)


class AclCreationResult(Message):
    """Acl creation result."""

    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))


class CreateAclsResponse(Message, key=30, versions=(1, 3), flexible_from=2):
    """Kafka's ``CreateAclsResponse``."""

    throttle_time_ms: int = int32(default=0)
    results: list[AclCreationResult] = array(AclCreationResult, default=list)
