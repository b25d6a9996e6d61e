"""The values that producers, consumers and the admin client hand to an application.

Plain tuples: they are hashable, compare by value and cost little to make.
"""

from __future__ import annotations

from typing import NamedTuple

Header = tuple[str, bytes | None]
"""A record header: its name and its value."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class OffsetAndMetadata(NamedTuple):
    """A committed position: the next offset to read, and what the committer noted beside it."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


class OffsetAndTimestamp(NamedTuple):
    """An offset found by time; ``timestamp_ms`` is that record's own."""

    offset: int
    timestamp_ms: int
    leader_epoch: int = -1


class RecordMetadata(NamedTuple):
    """Where a record went.

    ``offset`` is -1 when the broker was not asked (``acks=0``) or only knows that it has the record
    already. ``timestamp_ms`` is the record's own, or the broker's with ``LogAppendTime``.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
