"""DescribeTransactions, API key 65, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, int64, string


class DescribeTransactionsRequest(Message, key=65, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeTransactionsRequest``."""

    transactional_ids: list[str] = array(string, default=list)


class TopicData(Message):
    """Topic data."""

    topic: str = string(default="")
    partitions: list[int] = array(int32, default=list)


class TransactionState(Message):
    """Transaction state."""

    error_code: int = int16(default=0)
    transactional_id: str = string(default="")
    transaction_state: str = string(default="")
    transaction_timeout_ms: int = int32(default=0)
    transaction_start_time_ms: int = int64(default=0)
    producer_id: int = int64(default=0)
    producer_epoch: int = int16(default=0)
    topics: list[TopicData] = array(TopicData, default=list)


class DescribeTransactionsResponse(Message, key=65, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeTransactionsResponse``."""

    throttle_time_ms: int = int32(default=0)
    transaction_states: list[TransactionState] = array(TransactionState, default=list)
