"""The way of a record into its batch: one source, run as it is or compiled.

``Intake.take`` is what a producer does for every record: the checks, the partition, the place in a
batch, and the handle that the application gets. Where pip found a C compiler, mypyc compiled this very text to
``intake_compiled``; ``chosen_intake`` says which of the two runs. Both do the same; so what is an ``i64`` here is
an ``int`` when interpreted, and no arithmetic on one may leave 64 bits: they are sizes and times.

Sans-IO: the clock and what makes the next batch are given. Records are kept as columns until the batch is sent,
and encoded in one go then: no object a record, nothing for the garbage collector to walk. A record's delivery is
its batch's: a handle is only (batch, index), and there are no events or futures until somebody waits.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import repeat
from operator import index as to_int
from typing import TYPE_CHECKING, Any, Final

from ottla.client.errors import RecordTooLarge, RequestTimeout
from ottla.client.serializers import packed_headers, to_bytes
from ottla.client.types import RecordMetadata

if TYPE_CHECKING:
    from mypy_extensions import i64

    from ottla.client.partitioner import StickyPartition
    from ottla.client.producer.partition_queue import PartitionQueue
    from ottla.client.types import Header
    from ottla.errors import KafkaError
    from ottla.records.codec import NewRecord

RECORD_OVERHEAD_BYTES: Final = 21
"""More than a record's lengths and deltas take in all but absurd cases (Java: 21 at most)."""

TURN_RECORDS: Final = 512
"""After so many records without a wait a producer under asyncio lets the event loop turn."""

LET_LOOP_TURN: Final = -1
"""In the place of a size: wait for the loop's next turn."""

NO_HEADERS: Final[tuple[Any, ...]] = ()

_TIMESTAMP_END_MS: Final = 1 << 63
_NS_PER_MS: Final = 1_000_000

Headers = Sequence[tuple[str, bytes | str | None]] | dict[str, bytes | str | None]

OnDelivery = Callable[[RecordMetadata | None, Any], Any]
"""Called with where the record went, or with why it did not (a ``KafkaError``)."""


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
        self.size_bytes: i64 = 0
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

    def add(
        self,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        on_delivery: OnDelivery | None,
    ) -> None:
        """A record more; its size has been counted."""
        self.values.append(value)
        self.timestamps.append(timestamp_ms)
        if key is not None or self.keys is not None:
            self.add_key(key)
        if headers or self.headers is not None:
            self.add_headers(headers)
        if on_delivery is not None:
            self.call_back(on_delivery)

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

    def call_back(self, on_delivery: OnDelivery) -> None:
        """Call ``on_delivery`` for the record that was added last."""
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append((len(self.values) - 1, on_delivery))

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

    def outcome(self, index: int) -> RecordMetadata:
        """As ``metadata``; raises what the batch failed with."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.metadata(index)

    def listen(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` when the batch is done, or its parts are."""
        if self.listeners is None:
            self.listeners = []
        self.listeners.append(listener)

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


class AsyncDelivery:
    """A record on its way: ``await delivery`` gives its ``RecordMetadata`` or raises ``KafkaError``.

    It may be awaited any number of times, or not at all. Cancelling who waits does not take the record
    back.
    """

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def done(self) -> bool:
        """Whether the record's fate is known."""
        return self._batch.part_of(self._index)[0].done

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        batch, index = self._batch.part_of(self._index)
        while not batch.done:
            settled = asyncio.get_running_loop().create_future()
            batch.listen(partial(_set, settled))
            yield from settled
            batch, index = self._batch.part_of(self._index)
        return batch.outcome(index)


class Delivery:
    """A record on its way, as a ``concurrent.futures.Future`` would tell of it."""

    __slots__ = ("_batch", "_index", "_lock")

    def __init__(self, batch: Batch, index: int, lock: Any) -> None:
        self._batch = batch
        self._index = index
        self._lock = lock

    def done(self) -> bool:
        """Whether the record's fate is known."""
        with self._lock:
            return self._batch.part_of(self._index)[0].done

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Where the record went; waits up to ``timeout`` seconds (None: as long as it takes).

        Raises ``KafkaError`` when it was not delivered, ``RequestTimeout`` (a ``TimeoutError``) when the
        wait was too short.
        """
        batch, index = self._wait(timeout)
        return batch.outcome(index)

    def exception(self, timeout: float | None = None) -> KafkaError | None:
        """Why the record was not delivered; None when it was. Waits as ``result`` does."""
        return self._wait(timeout)[0].error

    def add_done_callback(self, callback: Callable[[Delivery], Any]) -> None:
        """Call back with this handle once the fate is known: at once if it is, else on the producer's thread."""
        with self._lock:
            batch = self._batch.part_of(self._index)[0]
            if not batch.done:
                batch.listen(lambda: callback(self))
                return
        callback(self)

    def _wait(self, timeout: float | None) -> tuple[Batch, int]:
        with self._lock:
            batch, index = self._batch.part_of(self._index)
            if batch.done:
                return batch, index
            settled = threading.Event()
            batch.listen(settled.set)
        if not settled.wait(timeout):
            raise RequestTimeout(f"no acknowledgement within {timeout} s")
        with self._lock:
            return self._batch.part_of(self._index)

    def __repr__(self) -> str:
        return f"<Delivery {'done' if self.done() else 'under way'}>"


class Topic:
    """A topic's partitions as the producer sees them; replaced parts follow the metadata."""

    __slots__ = ("available", "name", "partition_count", "queues", "sticky", "sticky_batch")

    def __init__(self, name: str, sticky: StickyPartition) -> None:
        self.name = name
        self.partition_count: i64 = 0
        self.available: Sequence[int] = ()
        self.queues: list[PartitionQueue] = []
        self.sticky = sticky
        self.sticky_batch: Batch | None = None


class Buffer:
    """What the open batches take, and which of them a record goes to."""

    __slots__ = ("_next_batch", "batch_size", "buffered_bytes", "limit_bytes", "topics")

    def __init__(
        self,
        batch_size: int,
        limit_bytes: int,
        next_batch: Callable[[Topic, int | None], Batch],
    ) -> None:
        self.batch_size: i64 = batch_size
        self._next_batch = next_batch
        self.limit_bytes: i64 = limit_bytes
        self.buffered_bytes: i64 = 0
        self.topics: dict[str, Topic] = {}

    def has_room(self, size_bytes: i64) -> bool:
        """Whether so much more may be taken."""
        return self.buffered_bytes + size_bytes <= self.limit_bytes

    def batch_for(self, topic: Topic, partition: int | None, size_bytes: i64) -> Batch:
        """The batch to put the next record into; its size is counted already.

        The caller has checked the partition and the room, and adds the record before it lets go of the lock.
        """
        batch: Batch | None = None
        if partition is None:
            batch = topic.sticky_batch
        else:
            batch = topic.queues[partition].open
        if batch is None or batch.closed or batch.size_bytes + size_bytes > self.batch_size:
            batch = self._next_batch(topic, partition)
        batch.size_bytes += size_bytes
        self.buffered_bytes += size_bytes
        return batch

    def release(self, batch: Batch) -> None:
        """The batch is settled."""
        self.buffered_bytes -= batch.size_bytes


class Intake:
    """Takes records for one producer, with its settings, into its buffer.

    ``threads`` says whether other threads than the sender's give records: each gets a ``Delivery``, which waits with
    the ``lock``, else an ``AsyncDelivery``. ``time_ns`` gives nanoseconds since 1970.

    The lock is the producer's: between threads whoever changes a batch holds it. What is compiled is not interrupted
    while it calls nothing that is not, so there a record that goes into a batch that is open needs no lock. Those who
    hold it must therefore close a batch before they rely on what is in it.
    """

    __slots__ = (
        "_at_once",
        "_buffer",
        "_largest",
        "_lock",
        "_own_partitioner",
        "_partitioner",
        "_serialize_key",
        "_serialize_value",
        "_taken",
        "_threads",
        "_time_ns",
        "closed",
    )

    def __init__(
        self,
        buffer: Buffer,
        lock: Any,
        threads: bool,
        largest: int,
        serialize_key: Any,
        serialize_value: Any,
        partitioner: Any,
        own_partitioner: bool,
        time_ns: Callable[[], int],
    ) -> None:
        self._buffer = buffer
        self._lock = lock
        self._threads = threads
        self._at_once = not threads or is_compiled()
        self._largest: i64 = largest
        self._serialize_key = serialize_key
        self._serialize_value = serialize_value
        self._partitioner = partitioner
        self._own_partitioner = own_partitioner
        self._time_ns = time_ns
        self._taken: i64 = 0
        self.closed = False

    def take(
        self,
        topic: Any,
        value: Any,
        key: Any,
        partition: Any,
        timestamp_ms: Any,
        headers: Any,
        on_delivery: Any,
    ) -> Any:
        """The record's handle, or its size (an ``int``) or ``LET_LOOP_TURN`` when it must wait.

        Called without the lock. Raises ``TypeError`` and ``ValueError`` for what can't be a record,
        ``RecordTooLarge``, and what a serializer raises.
        """
        if self._taken == TURN_RECORDS:
            self._taken = 0
            return LET_LOOP_TURN
        if type(value) is not bytes or self._serialize_value is not None:
            value = _serialized(value, self._serialize_value)
        data: bytes | None = value
        size: i64 = RECORD_OVERHEAD_BYTES
        if data is not None:
            size += len(data)
        if key is not None:
            if type(key) is not bytes or self._serialize_key is not None:
                key = _serialized(key, self._serialize_key)
            if key is not None:
                size += len(key)
        packed: Sequence[Header] = NO_HEADERS
        if headers:
            packed, headers_bytes = packed_headers(headers)
            size += headers_bytes
        if size > self._largest:
            raise RecordTooLarge(f"a record of {size} bytes where {self._largest} are allowed")
        buffer = self._buffer
        state = buffer.topics.get(topic)
        if state is None or self.closed:
            return size
        count: i64 = state.partition_count
        if count == 0:
            return size
        if partition is None and (self._own_partitioner or key is not None):
            partition = self._partitioner(topic, key, count)
        if partition is not None and not 0 <= partition < count:
            if partition < 0:
                raise ValueError(f"partition {partition} of {topic}")
            return size
        if timestamp_ms is None:
            now: i64 = self._time_ns()
            stamp: int = now // _NS_PER_MS
        else:
            stamp = to_int(timestamp_ms)
            if not 0 <= stamp < _TIMESTAMP_END_MS:
                raise ValueError(f"timestamp {timestamp_ms} is negative or too large")
        if self._at_once:
            handle = self._place(state, partition, size, stamp, key, data, packed, on_delivery)
        else:
            with self._lock:
                handle = self._place(state, partition, size, stamp, key, data, packed, on_delivery)
        if handle is not None:
            return handle
        with self._lock:
            if self.closed or not buffer.has_room(size):
                return size
            batch = buffer.batch_for(state, partition, size)
            batch.add(stamp, key, data, packed, on_delivery)
            return self._handle(batch, len(batch.values) - 1)

    def _place(
        self,
        state: Topic,
        partition: int | None,
        size: i64,
        stamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        on_delivery: OnDelivery | None,
    ) -> Any:
        """The handle of a record that goes into the open batch; None where there is none, or no room.

        All in one piece, and nothing that is interpreted: compiled, it needs no lock.
        """
        buffer = self._buffer
        if self.closed or buffer.buffered_bytes + size > buffer.limit_bytes:
            return None
        batch: Batch | None = None
        if partition is None:
            batch = state.sticky_batch
        else:
            batch = state.queues[partition].open
        if batch is None or batch.closed or batch.size_bytes + size > buffer.batch_size:
            return None
        batch.size_bytes += size
        buffer.buffered_bytes += size
        values = batch.values
        values.append(value)
        batch.timestamps.append(stamp)
        if key is not None or batch.keys is not None:
            batch.add_key(key)
        if headers or batch.headers is not None:
            batch.add_headers(headers)
        if on_delivery is not None:
            batch.call_back(on_delivery)
        return self._handle(batch, len(values) - 1)

    def _handle(self, batch: Batch, index: int) -> Any:
        if self._threads:
            return Delivery(batch, index, self._lock)
        self._taken += 1
        return AsyncDelivery(batch, index)


class Sending:
    """The ``send`` of the synchronous producer."""

    __slots__ = ("_intake", "_wait_for")

    def __init__(self, intake: Intake, wait: Callable[[str, int | None, int], object]) -> None:
        """``wait(topic, partition, size)`` returns when a record of that size may be taken."""
        self._intake = intake
        self._wait_for = wait

    def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery:
        """As ``Producer.send``, which is this."""
        while True:
            taken = self._intake.take(
                topic, value, key, partition, timestamp_ms, headers, on_delivery
            )
            if isinstance(taken, Delivery):
                return taken
            self._wait_for(topic, partition, taken)


def is_compiled() -> bool:
    """Whether this is the compiled copy, in an interpreter that runs one thread at a time."""
    has_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return has_gil and __name__.endswith("_compiled")


def _serialized(value: Any, serialize: Any) -> bytes | None:
    if value is None:
        return None
    if serialize is not None:
        value = serialize(value)
    return None if value is None else to_bytes(value)


def _set(settled: Any) -> None:
    if not settled.done():
        settled.set_result(None)
