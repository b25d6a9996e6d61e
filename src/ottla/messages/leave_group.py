"""LeaveGroup, API key 13, versions 0-5."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, int16, int32, since, string


class MemberIdentity(Message):
    """Member identity."""

    member_id: str = string(default="", versions=since(3))
    group_instance_id: str | None = string(default=None, versions=since(3), nullable=since(3))
    reason: str | None = string(default=None, versions=since(5), nullable=since(5))


class LeaveGroupRequest(Message, key=13, versions=(0, 5), flexible_from=4):
    """Kafka's ``LeaveGroupRequest``."""

    group_id: str = string(default="")
    member_id: str = string(default="", versions=V(0, 2))
    members: list[MemberIdentity] = array(MemberIdentity, default=list, versions=since(3))


class MemberResponse(Message):
    """Member response."""

    member_id: str = string(default="", versions=since(3))
    group_instance_id: str | None = string(default="", versions=since(3), nullable=since(3))
    error_code: int = int16(default=0, versions=since(3))


class LeaveGroupResponse(Message, key=13, versions=(0, 5), flexible_from=4):
    """Kafka's ``LeaveGroupResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(1))
    error_code: int = int16(default=0)
    members: list[MemberResponse] = array(MemberResponse, default=list, versions=since(3))
