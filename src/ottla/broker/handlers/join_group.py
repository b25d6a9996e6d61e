"""JoinGroup (key 11): become a member of a group, or stay one into its next generation.

Behaviour: the answer is parked until the group's members are known: until all have joined, or the rebalance
timeout is over. The group's leader gets everybody's metadata, the others get none.
Versions: 0 has no rebalance timeout (the session's is taken); 4 answers a new dynamic member with its id and
MEMBER_ID_REQUIRED first (KIP-394); 5 static members (KIP-345); 7 returns the protocol type, and null for no
protocol; 8 a reason (KIP-800); 9 SkipAssignment for a static leader that comes back (KIP-814).
Errors: INVALID_GROUP_ID, INVALID_SESSION_TIMEOUT, INCONSISTENT_GROUP_PROTOCOL, UNKNOWN_MEMBER_ID,
FENCED_INSTANCE_ID, MEMBER_ID_REQUIRED, GROUP_MAX_SIZE_REACHED, REBALANCE_IN_PROGRESS, INVALID_REQUEST (a
name that no record can hold), and a coordinator's three.
Source: ``GroupCoordinatorService.joinGroup``, ``JoinGroupRequest.java``, ``JoinGroupResponse.java``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.groups.coordinator import then
from ottla.groups.group import Joining
from ottla.messages.join_group import JoinGroupRequest, JoinGroupResponse

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request

_REASON_CHARS_MAX = 255


def handle(
    broker: Broker, request: Request
) -> JoinGroupResponse | asyncio.Future[JoinGroupResponse]:
    """Hand the request to the coordinator; what it keeps of the request is copied."""
    body: JoinGroupRequest = request.body
    version = request.api_version
    client_id = request.client_id or ""
    protocols: dict[str, bytes] = {}
    for protocol in body.protocols:
        protocols.setdefault(protocol.name, protocol.metadata)
    joining = Joining(
        member_id=body.member_id,
        group_instance_id=body.group_instance_id,
        client_id=client_id,
        client_host=f"/{request.connection.peer_host}",
        session_timeout_ms=body.session_timeout_ms,
        rebalance_timeout_ms=body.session_timeout_ms if version == 0 else body.rebalance_timeout_ms,
        protocol_type=body.protocol_type,
        protocols=protocols,
        reason=(body.reason or "not provided")[:_REASON_CHARS_MAX],
        new_member_id=""
        if body.member_id
        else broker.groups.new_member_id(
            client_id if body.group_instance_id is None else body.group_instance_id
        ),
        knows_member_ids=version >= 4,
        knows_skipping=version >= 9,
    )
    answer = broker.groups.join(body.group_id, joining)
    # It may wait for minutes: its bytes must not count against the requests of others so long.
    request.release()
    return then(answer, partial(_for_version, version))


def _for_version(version: int, response: JoinGroupResponse) -> JoinGroupResponse:
    """No protocol is an empty name before version 7, and null from then on."""
    if version < 7:
        response.protocol_name = response.protocol_name or ""
    else:
        response.protocol_name = response.protocol_name or None
    return response
