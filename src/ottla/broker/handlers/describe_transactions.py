"""DescribeTransactions (key 65): how transactions stand (KIP-664).

Behaviour: there are none: see docs/decisions/0005. An id that is named twice is told once.
Errors, for each id: TRANSACTIONAL_ID_NOT_FOUND, always.
Source: ``TransactionCoordinator.handleDescribeTransactions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TransactionState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> DescribeTransactionsResponse:
    """Know none."""
    body: DescribeTransactionsRequest = request.body
    return DescribeTransactionsResponse(
        transaction_states=[
            TransactionState(transactional_id=name, error_code=ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
            for name in dict.fromkeys(body.transactional_ids)
        ]
    )
