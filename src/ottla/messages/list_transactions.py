"""ListTransactions, API key 66, versions 0-2."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, int64, since, string


class ListTransactionsRequest(Message, key=66, versions=(0, 2), flexible_from=0):
    """Kafka's ``ListTransactionsRequest``."""

    state_filters: list[str] = array(string, default=list)
    producer_id_filters: list[int] = array(int64, default=list)
    duration_filter: int = int64(default=-1, versions=since(1))
    transactional_id_pattern: str | None = string(
        default=None, versions=since(2), nullable=since(2)
    )


class TransactionState(Message):
    """Transaction state."""

    transactional_id: str = string(default="")
    producer_id: int = int64(default=0)
    transaction_state: str = string(default="")


class ListTransactionsResponse(Message, key=66, versions=(0, 2), flexible_from=0):
    """Kafka's ``ListTransactionsResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    unknown_state_filters: list[str] = array(string, default=list)
    transaction_states: list[TransactionState] = array(TransactionState, default=list)
