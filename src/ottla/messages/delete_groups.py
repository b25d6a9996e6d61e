"""DeleteGroups, API key 42, versions 0-3. Version 3 says why in words (KIP-1331)."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, since, string


class DeleteGroupsRequest(Message, key=42, versions=(0, 3), flexible_from=2):
    """Kafka's ``DeleteGroupsRequest``."""

    groups_names: list[str] = array(string, default=list)


class DeletableGroupResult(Message):
    """Deletable group result."""

    group_id: str = string(default="")
    error_code: int = int16(default=0)
    error_message: str | None = string(default=None, versions=since(3), nullable=since(3))


class DeleteGroupsResponse(Message, key=42, versions=(0, 3), flexible_from=2):
    """Kafka's ``DeleteGroupsResponse``."""

    throttle_time_ms: int = int32(default=0)
    results: list[DeletableGroupResult] = array(DeletableGroupResult, default=list)
