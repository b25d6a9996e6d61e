"""ListGroups, API key 16, versions 0-5."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, since, string


class ListGroupsRequest(Message, key=16, versions=(0, 5), flexible_from=3):
    """Kafka's ``ListGroupsRequest``."""

    states_filter: list[str] = array(string, versions=since(4))
    types_filter: list[str] = array(string, versions=since(5))


class ListedGroup(Message):
    """Listed group."""

    group_id: str = string()
    protocol_type: str = string()
    group_state: str = string(versions=since(4))
    group_type: str = string(versions=since(5))


class ListGroupsResponse(Message, key=16, versions=(0, 5), flexible_from=3):
    """Kafka's ``ListGroupsResponse``."""

    throttle_time_ms: int = int32(versions=since(1))
    error_code: int = int16()
    groups: list[ListedGroup] = array(ListedGroup)
