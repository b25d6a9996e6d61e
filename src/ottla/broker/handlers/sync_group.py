"""SyncGroup (key 14): the leader brings the generation's assignment, every member fetches its part.

Behaviour: parked until the leader has come and its assignment is committed; in a stable group the assignment
is there at once.
Versions: 3 static members (KIP-345); 5 names the protocol type and the protocol, which then must be there and
must be the group's (KIP-559).
Errors: INVALID_GROUP_ID, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION,
INCONSISTENT_GROUP_PROTOCOL, REBALANCE_IN_PROGRESS (also while the group is being loaded), NOT_COORDINATOR,
COORDINATOR_NOT_AVAILABLE.
Source: ``GroupMetadataManager.classicGroupSync``, ``KafkaApis.handleSyncGroupRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(
    broker: Broker, request: Request
) -> SyncGroupResponse | asyncio.Future[SyncGroupResponse]:
    """Hand the request to the coordinator."""
    body: SyncGroupRequest = request.body
    if request.api_version >= 5 and (body.protocol_type is None or body.protocol_name is None):
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    answer = broker.groups.sync(
        body.group_id,
        body.member_id,
        body.group_instance_id,
        body.generation_id,
        body.protocol_type,
        body.protocol_name,
        {each.member_id: each.assignment for each in body.assignments},
    )
    # It may wait for the leader: its bytes must not count against the requests of others so long.
    request.release()
    return answer
