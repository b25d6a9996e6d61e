"""How a partition's answer to a Produce says what went wrong."""

from __future__ import annotations

from ottla.errors import ErrorCode, KafkaError
from ottla.log.validation import InvalidRecords
from ottla.messages.produce import BatchIndexAndErrorMessage, PartitionProduceResponse

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
