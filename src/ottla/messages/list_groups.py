"""ListGroups, API key 16, versions 0-5."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, since, string


class ListGroupsRequest(Message, key=16, versions=(0, 5), flexible_from=3):
    """Kafka's ``ListGroupsRequest``."""

    states_filter: list[str] = array(string, default=list, versions=since(4))
    types_filter: list[str] = array(string, default=list, versions=since(5))


class ListedGroup(Message):
    """Listed group."""

    group_id: str = string(default="")
    protocol_type: str = string(default="")
    group_state: str = string(default="", versions=since(4))
    group_type: str = string(default="", versions=since(5))


class ListGroupsResponse(Message, key=16, versions=(0, 5), flexible_from=3):
    """Kafka's ``ListGroupsResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(1))
    error_code: int = int16(default=0)
    groups: list[ListedGroup] = array(ListedGroup, default=list)
