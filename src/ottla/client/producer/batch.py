"""A batch that waits for its acknowledgement, and what a record's sender holds of it.

Records are kept as columns until the batch is sent, and encoded in one go then: no object a record, nothing
for the garbage collector to walk. A record's delivery is its batch's: a handle is only (batch, index), and
there are no events or futures until somebody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

from ottla.client.types import Header, RecordMetadata
from ottla.errors import KafkaError
from ottla.records.codec import NewRecord

NO_HEADERS: Sequence[Header] = ()

OnDelivery = Callable[[RecordMetadata | None, KafkaError | None], Any]
"""Called with where the record went, or with why it did not."""


class Batch:
    """Records for one partition that are sent, retried and acknowledged together."""

    __slots__ = (
        "attempts",
        "base_offset",
        "base_sequence",
        "callbacks",
        "closed",
        "deadline_ms",
        "done",
        "error",
        "headers",
        "keys",
        "linger_until_ms",
        "listeners",
        "log_append_time_ms",
        "maybe_written",
        "order",
        "partition",
        "parts",
        "payload",
        "producer_epoch",
        "producer_id",
        "size_bytes",
        "timestamps",
        "topic",
        "values",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        order: tuple[int, ...],
        linger_until_ms: int,
        deadline_ms: int,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.order = order
        self.linger_until_ms = linger_until_ms
        self.deadline_ms = deadline_ms
        self.timestamps: list[int] = []
        self.values: list[bytes | None] = []
        self.keys: list[bytes | None] | None = None
        """Every record's key; None while no record has one."""
        self.headers: list[Sequence[Header]] | None = None
        """Every record's headers; None while no record has any."""
        self.size_bytes = 0
        self.closed = False
        self.attempts = 0
        self.maybe_written = False
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1
        self.payload: bytes | bytearray | None = None
        self.done = False
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.error: KafkaError | None = None
        self.parts: list[tuple[int, Batch]] | None = None
        self.listeners: list[Callable[[], object]] | None = None
        self.callbacks: list[tuple[int, OnDelivery]] | None = None

    def __len__(self) -> int:
        """The number of records."""
        return len(self.values)

    def records(self) -> Iterator[NewRecord]:
        """The records as they are encoded."""
        keys = self.keys if self.keys is not None else repeat(None)
        headers = self.headers if self.headers is not None else repeat(NO_HEADERS)
        return zip(self.timestamps, keys, self.values, headers, strict=False)

    def add_key(self, key: bytes | None) -> None:
        """The key of the record whose value was added last, in a batch where some have one."""
        if self.keys is None:
            self.keys = [None] * (len(self.values) - 1)
        self.keys.append(key)

    def add_headers(self, headers: Sequence[Header]) -> None:
        """The headers of the record whose value was added last, in a batch where some have any."""
        if self.headers is None:
            self.headers = [NO_HEADERS] * (len(self.values) - 1)
        self.headers.append(headers)

    def split(self) -> list[Batch]:
        """Two halves of what the broker found too large, with the same place and the same sequences.

        Whoever waits for a record of this batch waits for its half from now on.
        """
        middle = len(self) // 2
        halves = []
        for number, part in enumerate((slice(0, middle), slice(middle, len(self)))):
            half = Batch(
                self.topic,
                self.partition,
                (*self.order, number),
                self.linger_until_ms,
                self.deadline_ms,
            )
            half.timestamps = self.timestamps[part]
            half.values = self.values[part]
            half.keys = None if self.keys is None else self.keys[part]
            half.headers = None if self.headers is None else self.headers[part]
            half.size_bytes = self.size_bytes * len(half) // len(self)
            half.closed = True
            half.attempts = self.attempts
            half.maybe_written = self.maybe_written
            if self.base_sequence >= 0:
                half.producer_id = self.producer_id
                half.producer_epoch = self.producer_epoch
                half.base_sequence = (self.base_sequence + part.start) & 0x7FFFFFFF
            halves.append(half)
        halves[1].size_bytes = self.size_bytes - halves[0].size_bytes
        self.parts = [(0, halves[0]), (middle, halves[1])]
        for index, callback in self.callbacks or ():
            half = halves[index >= middle]
            half.callbacks = half.callbacks or []
            half.callbacks.append((index - middle if index >= middle else index, callback))
        self.callbacks = None
        return halves

    def part_of(self, index: int) -> tuple[Batch, int]:
        """The batch that a record is in by now, and its index there."""
        batch = self
        while batch.parts is not None:
            start, half = batch.parts[index >= batch.parts[1][0]]
            batch, index = half, index - start
        return batch, index

    def metadata(self, index: int) -> RecordMetadata:
        """Where the record went; only once the batch is done without an error."""
        timestamp_ms = self.log_append_time_ms
        if timestamp_ms < 0:
            timestamp_ms = self.timestamps[index]
        offset = self.base_offset + index if self.base_offset >= 0 else -1
        return RecordMetadata(self.topic, self.partition, offset, timestamp_ms)

    def finish(self) -> list[Callable[[], object]]:
        """Mark as done; what to call now (outside of any lock)."""
        self.done = True
        self.payload = None
        calls: list[Callable[[], object]] = list(self.listeners or ())
        for index, callback in self.callbacks or ():
            calls.append(self._call(index, callback))
        self.listeners = self.callbacks = None
        return calls

    def _call(self, index: int, callback: OnDelivery) -> Callable[[], object]:
        if self.error is not None:
            return lambda: callback(None, self.error)
        return lambda: callback(self.metadata(index), None)
