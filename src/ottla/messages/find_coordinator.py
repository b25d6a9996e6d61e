"""FindCoordinator, API key 10, versions 0-6."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, int8, int16, int32, since, string


class FindCoordinatorRequest(Message, key=10, versions=(0, 6), flexible_from=3):
    """Kafka's ``FindCoordinatorRequest``."""

    key: str = string(default="", versions=V(0, 3))
    key_type: int = int8(default=0, versions=since(1))
    coordinator_keys: list[str] = array(string, default=list, versions=since(4))


class Coordinator(Message):
    """Coordinator."""

    key: str = string(default="", versions=since(4))
    node_id: int = int32(default=0, versions=since(4))
    host: str = string(default="", versions=since(4))
    port: int = int32(default=0, versions=since(4))
    error_code: int = int16(default=0, versions=since(4))
    error_message: str | None = string(default="", versions=since(4), nullable=since(4))


class FindCoordinatorResponse(Message, key=10, versions=(0, 6), flexible_from=3):
    """Kafka's ``FindCoordinatorResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(1))
    error_code: int = int16(default=0, versions=V(0, 3))
    error_message: str | None = string(default="", versions=V(1, 3), nullable=V(1, 3))
    node_id: int = int32(default=0, versions=V(0, 3))
    host: str = string(default="", versions=V(0, 3))
    port: int = int32(default=0, versions=V(0, 3))
    coordinators: list[Coordinator] = array(Coordinator, default=list, versions=since(4))
