"""ListGroups (key 16): the groups that this broker coordinates. Clients ask every broker.

Versions: 4 states, and a filter by them (KIP-518); 5 types, and a filter by them (KIP-848): all ours are
"classic". Filters do not care about upper and lower case; one that names no state or type lists nothing.
Errors: COORDINATOR_LOAD_IN_PROGRESS (while one of our partitions is being loaded), COORDINATOR_NOT_AVAILABLE.
Source: ``GroupMetadataManager.listGroups``, ``GroupCoordinatorService.listGroups``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.groups.coordinator import ListedGroups, then
from ottla.messages.list_groups import ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(
    broker: Broker, request: Request
) -> ListGroupsResponse | asyncio.Future[ListGroupsResponse]:
    """List the groups that the filters let through."""
    body: ListGroupsRequest = request.body
    return then(broker.groups.list_groups(body.states_filter, body.types_filter), _answer)


def _answer(listed: ListedGroups) -> ListGroupsResponse:
    return ListGroupsResponse(error_code=listed.error, groups=listed.groups)
