"""DescribeGroups (key 15): the state of groups, their members and what those are assigned.

Behaviour: the protocol and the members' metadata are shown in a stable group only. Answered once what the
group did before is committed.
Versions: 3 the operations that the client is allowed (all: there is no authoriser); 4 instance ids; 6 answers
a group that is not known with GROUP_ID_NOT_FOUND and a message (KIP-1043; before: no error, state Dead).
Errors, for each group: GROUP_ID_NOT_FOUND, and a coordinator's three.
Source: ``GroupMetadataManager.describeGroups``, ``KafkaApis.handleDescribeGroupsRequest``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.broker.authorized_operations import GROUP_OPERATIONS
from ottla.errors import ErrorCode
from ottla.groups.coordinator import gather, then
from ottla.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(
    broker: Broker, request: Request
) -> DescribeGroupsResponse | asyncio.Future[DescribeGroupsResponse]:
    """Describe every group that is named."""
    body: DescribeGroupsRequest = request.body
    described = gather([broker.groups.describe(group_id) for group_id in body.groups])
    return then(
        described, partial(_answer, request.api_version, body.include_authorized_operations)
    )


def _answer(
    version: int, with_operations: bool, groups: list[DescribedGroup]
) -> DescribeGroupsResponse:
    for group in groups:
        if version < 6 and group.error_code == ErrorCode.GROUP_ID_NOT_FOUND:
            group.error_code, group.error_message = ErrorCode.NONE, None
        if with_operations and group.error_code == ErrorCode.NONE:
            group.authorized_operations = GROUP_OPERATIONS
    return DescribeGroupsResponse(groups=groups)
