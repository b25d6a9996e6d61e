"""JoinGroup, API key 11, versions 0-9."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, bytes_, int16, int32, since, string


class JoinGroupRequestProtocol(Message):
    """Join group request protocol."""

    name: str = string(default="")
    metadata: bytes = bytes_(default=b"")


class JoinGroupRequest(Message, key=11, versions=(0, 9), flexible_from=6):
    """Kafka's ``JoinGroupRequest``."""

    group_id: str = string(default="")
    session_timeout_ms: int = int32(default=0)
    rebalance_timeout_ms: int = int32(default=-1, versions=since(1))
    member_id: str = string(default="")
    group_instance_id: str | None = string(default=None, versions=since(5), nullable=since(5))
    protocol_type: str = string(default="")
    protocols: list[JoinGroupRequestProtocol] = array(JoinGroupRequestProtocol, default=list)
    reason: str | None = string(default=None, versions=since(8), nullable=since(8))


class JoinGroupResponseMember(Message):
    """Join group response member."""

    member_id: str = string(default="")
    group_instance_id: str | None = string(default=None, versions=since(5), nullable=since(5))
    metadata: bytes = bytes_(default=b"")


class JoinGroupResponse(Message, key=11, versions=(0, 9), flexible_from=6):
    """Kafka's ``JoinGroupResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(2))
    error_code: int = int16(default=0)
    generation_id: int = int32(default=-1)
    protocol_type: str | None = string(default=None, versions=since(7), nullable=since(7))
    protocol_name: str | None = string(default="", nullable=since(7))
    leader: str = string(default="")
    skip_assignment: bool = boolean(default=False, versions=since(9))
    member_id: str = string(default="")
    members: list[JoinGroupResponseMember] = array(JoinGroupResponseMember, default=list)
