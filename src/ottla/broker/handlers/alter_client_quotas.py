"""AlterClientQuotas (key 49): refused, since this broker holds nobody to a quota.

Behaviour: a quota that is stored and not kept would be worse than none.
Errors, for each entity: INVALID_REQUEST, always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    AlterClientQuotasResponseEntryData,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> AlterClientQuotasResponse:
    """Refuse each."""
    body: AlterClientQuotasRequest = request.body
    return AlterClientQuotasResponse(
        entries=[
            AlterClientQuotasResponseEntryData(
                error_code=ErrorCode.INVALID_REQUEST,
                error_message="Client quotas are not supported by this broker.",
                entity=entry.entity,
            )
            for entry in body.entries
        ]
    )
