"""ListTransactions (key 66): the transactions of this broker's coordinator (KIP-664).

Behaviour: there are none: see docs/decisions/0005. States that nobody knows are named, as Kafka does.
Versions: 1 filters by duration, 2 by a pattern of ids.
Errors: INVALID_REGULAR_EXPRESSION for a pattern that is none.
Source: ``TransactionCoordinator.handleListTransactions``, ``TransactionState.scala``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

STATES = frozenset(
    {
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    }
)
PATTERN_LENGTH_MAX = 1000
"""A longer pattern is taken as it is: it has nothing to match, and checking it would cost time."""


def handle(broker: Broker, request: Request) -> ListTransactionsResponse:
    """An empty list."""
    body: ListTransactionsRequest = request.body
    pattern = body.transactional_id_pattern
    if pattern and len(pattern) <= PATTERN_LENGTH_MAX:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return ListTransactionsResponse(error_code=ErrorCode.INVALID_REGULAR_EXPRESSION)
    unknown = [state for state in dict.fromkeys(body.state_filters) if state not in STATES]
    return ListTransactionsResponse(unknown_state_filters=unknown)
