"""LeaveGroup (key 13): members go, and the others share what they had.

Behaviour: a static member that only restarts does not send this. From version 3 on an administrator removes
static members by instance id alone, with an empty member id.
Versions: 0-2 name one member, whose error is the response's; 3 a list of members with an error each
(KIP-345); 5 a reason (KIP-800).
Errors: INVALID_GROUP_ID, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, and a coordinator's three.
Source: ``GroupMetadataManager.classicGroupLeave``, ``LeaveGroupResponse.java``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.groups.coordinator import then
from ottla.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request

Leaving = list[tuple[str, str | None]]


def handle(
    broker: Broker, request: Request
) -> LeaveGroupResponse | asyncio.Future[LeaveGroupResponse]:
    """Remove the members that are named."""
    body: LeaveGroupRequest = request.body
    if request.api_version < 3:
        leaving: Leaving = [(body.member_id, None)]
        return then(broker.groups.leave(body.group_id, leaving), _single)
    leaving = [(each.member_id, each.group_instance_id) for each in body.members]
    return then(broker.groups.leave(body.group_id, leaving), partial(_batch, leaving))


def _single(answer: tuple[ErrorCode, list[ErrorCode]]) -> LeaveGroupResponse:
    error, codes = answer
    return LeaveGroupResponse(error_code=error or codes[0])


def _batch(leaving: Leaving, answer: tuple[ErrorCode, list[ErrorCode]]) -> LeaveGroupResponse:
    error, codes = answer
    members = [
        MemberResponse(member_id=member_id, group_instance_id=instance_id, error_code=code)
        for (member_id, instance_id), code in zip(leaving, codes, strict=False)
    ]
    return LeaveGroupResponse(error_code=error, members=members)
