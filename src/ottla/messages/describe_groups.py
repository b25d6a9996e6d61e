"""DescribeGroups, API key 15, versions 0-6."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, bytes_, int16, int32, since, string


class DescribeGroupsRequest(Message, key=15, versions=(0, 6), flexible_from=5):
    """Kafka's ``DescribeGroupsRequest``."""

    groups: list[str] = array(string)
    include_authorized_operations: bool = boolean(versions=since(3))


class DescribedGroupMember(Message):
    """Described group member."""

    member_id: str = string()
    group_instance_id: str | None = string(default=None, versions=since(4), nullable=since(4))
    client_id: str = string()
    client_host: str = string()
    member_metadata: bytes = bytes_()
    member_assignment: bytes = bytes_()


class DescribedGroup(Message):
    """Described group."""

    error_code: int = int16()
    error_message: str | None = string(default=None, versions=since(6), nullable=since(6))
    group_id: str = string()
    group_state: str = string()
    protocol_type: str = string()
    protocol_data: str = string()
    members: list[DescribedGroupMember] = array(DescribedGroupMember)
    authorized_operations: int = int32(default=-2147483648, versions=since(3))


class DescribeGroupsResponse(Message, key=15, versions=(0, 6), flexible_from=5):
    """Kafka's ``DescribeGroupsResponse``."""

    throttle_time_ms: int = int32(versions=since(1))
    groups: list[DescribedGroup] = array(DescribedGroup)
