"""Heartbeat (key 12): a member is alive; the answer tells it to join again when the group rebalances.

Versions: 3 static members (KIP-345). While the group's partition is being loaded the answer is NONE.
Errors: INVALID_GROUP_ID, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS,
NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE.
Source: ``GroupMetadataManager.classicGroupHeartbeat``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> HeartbeatResponse:
    """Extend the member's session."""
    body: HeartbeatRequest = request.body
    code = broker.groups.heartbeat(
        body.group_id, body.member_id, body.group_instance_id, body.generation_id
    )
    return HeartbeatResponse(error_code=code)
