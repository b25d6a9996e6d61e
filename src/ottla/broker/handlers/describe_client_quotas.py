"""DescribeClientQuotas (key 48): the quotas of users, clients and addresses (KIP-546).

Behaviour: there are none, and AlterClientQuotas makes none.
Errors: INVALID_REQUEST for a filter that makes no sense.
Source: ``ZkAdminManager.describeClientQuotas``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.describe_client_quotas import (
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

EXACT, DEFAULT, ANY = range(3)


def handle(broker: Broker, request: Request) -> DescribeClientQuotasResponse:
    """An empty list."""
    body: DescribeClientQuotasRequest = request.body
    reason = None
    if any(c.match_type not in (EXACT, DEFAULT, ANY) for c in body.components):
        reason = "Unexpected match type"
    elif len({c.entity_type for c in body.components}) != len(body.components):
        reason = "Duplicate entity type in the filter"
    if reason is not None:
        return DescribeClientQuotasResponse(
            error_code=ErrorCode.INVALID_REQUEST, error_message=reason, entries=None
        )
    return DescribeClientQuotasResponse(error_message=None)
