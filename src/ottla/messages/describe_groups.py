"""DescribeGroups, API key 15, versions 0-6."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, bytes_, int16, int32, since, string


class DescribeGroupsRequest(Message, key=15, versions=(0, 6), flexible_from=5):
    """Kafka's ``DescribeGroupsRequest``."""

    groups: list[str] = array(string, default=list)
    include_authorized_operations: bool = boolean(default=False, versions=since(3))


class DescribedGroupMember(Message):
    """Described group member."""

    member_id: str = string(default="")
    group_instance_id: str | None = string(default=None, versions=since(4), nullable=since(4))
    client_id: str = string(default="")
    client_host: str = string(default="")
    member_metadata: bytes = bytes_(default=b"")
    member_assignment: bytes = bytes_(default=b"")


class DescribedGroup(Message):
    """Described group."""

    error_code: int = int16(default=0)
    error_message: str | None = string(default=None, versions=since(6), nullable=since(6))
    group_id: str = string(default="")
    group_state: str = string(default="")
    protocol_type: str = string(default="")
    protocol_data: str = string(default="")
    members: list[DescribedGroupMember] = array(DescribedGroupMember, default=list)
    authorized_operations: int = int32(default=-2147483648, versions=since(3))


class DescribeGroupsResponse(Message, key=15, versions=(0, 6), flexible_from=5):
    """Kafka's ``DescribeGroupsResponse``."""

    throttle_time_ms: int = int32(default=0, versions=since(1))
    groups: list[DescribedGroup] = array(DescribedGroup, default=list)
