"""SyncGroup, API key 14, versions 0-5."""

from __future__ import annotations

from ottla.wire.schema import Message, array, bytes_, int16, int32, since, string


class SyncGroupRequestAssignment(Message):
    """Sync group request assignment."""

    member_id: str = string(default="")
    assignment: bytes = bytes_(default=b"")


class SyncGroupRequest(Message, key=14, versions=(0, 5), flexible_from=4):
    """Kafka's ``SyncGroupRequest``."""

    group_id: str = string(default="")
    generation_id: int = int32(default=0)
    member_id: str = string(default="")
    group_instance_id: str | None = string(default=None, versions=since(3), nullable=since(3))
    protocol_type: str | None = string(default=None, versions=since(5), nullable=since(5))
    protocol_name: str | None = string(default=None, versions=since(5), nullable=since(5))
    assignments: list[SyncGroupRequestAssignment] = array(SyncGroupRequestAssignment, default=list)


class SyncGroupResponse(Message, key=14, versions=(0, 5), flexible_from=4):
    """Kafka's ``SyncGroupResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(1))
    error_code: int = int16(default=0)
    protocol_type: str | None = string(default=None, versions=since(5), nullable=since(5))
    protocol_name: str | None = string(default=None, versions=since(5), nullable=since(5))
    assignment: bytes = bytes_(default=b"")
