"""DeleteGroups (key 42): end empty groups, with their offsets.

Behaviour: answered once the tombstones are committed. A group that is named twice is answered once.
Errors, for each group: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, and a coordinator's three.
Source: ``GroupCoordinatorShard.deleteGroups``, ``KafkaApis.handleDeleteGroupsRequest``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.groups.coordinator import gather, then
from ottla.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(
    broker: Broker, request: Request
) -> DeleteGroupsResponse | asyncio.Future[DeleteGroupsResponse]:
    """Delete every group that is named."""
    body: DeleteGroupsRequest = request.body
    group_ids = list(dict.fromkeys(body.groups_names))
    codes = gather([broker.groups.delete_group(group_id) for group_id in group_ids])
    return then(codes, partial(_answer, group_ids))


def _answer(group_ids: list[str], codes: list[ErrorCode]) -> DeleteGroupsResponse:
    return DeleteGroupsResponse(
        results=[
            DeletableGroupResult(group_id=group_id, error_code=code)
            for group_id, code in zip(group_ids, codes, strict=True)
        ]
    )
