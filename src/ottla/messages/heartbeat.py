"""Heartbeat, API key 12, versions 0-4."""

from __future__ import annotations

from ottla.wire.schema import Message, int16, int32, since, string


class HeartbeatRequest(Message, key=12, versions=(0, 4), flexible_from=4):
    """Kafka's ``HeartbeatRequest``."""

    group_id: str = string(default="")
    generation_id: int = int32(default=0)
    member_id: str = string(default="")
    group_instance_id: str | None = string(default=None, versions=since(3), nullable=since(3))


class HeartbeatResponse(Message, key=12, versions=(0, 4), flexible_from=4):
    """Kafka's ``HeartbeatResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(1))
    error_code: int = int16(default=0)
