"""How a partition's answer to a Produce says what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.current_leaders import current_leader, endpoints_of
from ottla.errors import ErrorCode, KafkaError
from ottla.log.validation import InvalidRecords
from ottla.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

LEADERS_SINCE = 10

# Which errors come without the log's start (``ReplicaManager.appendToLocalLog``).
WITHOUT_LOG_START = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)


def fail(answer: PartitionProduceResponse, error: KafkaError) -> None:
    """Put an error into a partition's answer."""
    answer.error_code = error.code
    answer.error_message = error.message
    answer.base_offset = -1
    if isinstance(error, InvalidRecords):
        answer.record_errors = [
            BatchIndexAndErrorMessage(batch_index=index, batch_index_error_message=why)
            for index, why in error.record_errors
        ]


def tell_leaders(broker: Broker, response: ProduceResponse, listener: str) -> None:
    """Say who leads what this broker does not, and where to reach them (version 10, KIP-951)."""
    leaders: dict[int, None] = {}
    for topic in response.responses:
        for answer in topic.partition_responses:
            if answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
                leader, epoch = current_leader(broker, topic.name, topic.topic_id, answer.index)
                answer.current_leader = LeaderIdAndEpoch(leader_id=leader, leader_epoch=epoch)
                leaders[leader] = None
    if leaders:
        response.node_endpoints = endpoints_of(broker, leaders, listener, NodeEndpoint)
