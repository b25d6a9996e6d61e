"""What a client raises beside the broker's answers.

Everything is a ``KafkaError`` with a code, so that an application needs one ``except``; the names here let
it tell the causes apart. Misuse of an object (closed, not subscribed) is a ``RuntimeError``.
"""

from __future__ import annotations

from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError


class NoBrokerAvailable(KafkaError):
    """None of the bootstrap addresses and no known broker answered in time."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.BROKER_NOT_AVAILABLE, message)


class RequestTimeout(KafkaError, TimeoutError):
    """The client waited as long as it may; what was asked for may still happen."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.REQUEST_TIMED_OUT, message)


class DeliveryTimeout(RequestTimeout):
    """A record was not acknowledged within ``delivery_timeout_ms``; it may or may not be in the log."""


class BufferFull(RequestTimeout):
    """``buffer_memory`` did not become free within ``max_block_ms``; the record was not taken."""


class RecordTooLarge(KafkaError):
    """A record alone is larger than ``max_request_size`` or than the whole buffer."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.MESSAGE_TOO_LARGE, message)


class CommitFailed(KafkaError):
    """The member has lost its place in the group: its partitions may belong to others already."""


class NoOffsetForPartition(KafkaError):
    """A partition has no committed offset (or an impossible one) and ``auto_offset_reset`` is "none"."""

    def __init__(self, partitions: list[TopicPartition], *, out_of_range: bool) -> None:
        self.partitions = partitions
        what = "out of range" if out_of_range else "without a committed offset"
        super().__init__(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{what} and no reset policy: {', '.join(map(str, partitions))}",
        )


class LogTruncated(KafkaError):
    """Records that were read before have been replaced by others (KIP-320); ``diverged`` says from where."""

    def __init__(self, diverged: dict[TopicPartition, int]) -> None:
        self.diverged = diverged
        ends = ", ".join(f"{partition}@{offset}" for partition, offset in diverged.items())
        super().__init__(ErrorCode.OFFSET_OUT_OF_RANGE, f"the log was truncated: {ends}")


__all__ = [
    "BufferFull",
    "CommitFailed",
    "DeliveryTimeout",
    "ErrorCode",
    "KafkaError",
    "LogTruncated",
    "NoBrokerAvailable",
    "NoOffsetForPartition",
    "RecordTooLarge",
    "RequestTimeout",
]
