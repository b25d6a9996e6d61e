"""Where records gather until the sender takes them: batches a partition, within a bound of memory.

Sans-IO and not thread-safe: whoever calls holds the producer's lock. Nothing here waits or wakes; the
``signal`` that is passed in is called when the sleeping sender should look again (a first record after
``arm`` with ``lingering=False``, or a batch that became full).
All times are milliseconds of a clock that never goes back, save records' timestamps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ottla.client.errors import DeliveryTimeout
from ottla.client.partitioner import StickyPartition
from ottla.client.producer.chosen_intake import Batch, Buffer, Topic
from ottla.client.producer.partition_queue import PartitionQueue
from ottla.errors import ErrorCode, KafkaError
from ottla.topic_ids import ZERO_ID

_SEQUENCE_LOST = frozenset(
    {
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    }
)
_FATE_UNKNOWN = frozenset(
    {
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.UNKNOWN_SERVER_ERROR,
        ErrorCode.KAFKA_STORAGE_ERROR,
        # A leader that appended and then lost its place, or its partition, says so:
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
    }
)


class Limits(NamedTuple):
    """The producer's settings that bound the buffer."""

    batch_size: int
    linger_ms: int
    buffer_memory: int
    max_request_size: int
    delivery_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    max_in_flight: int
    idempotent: bool


class Drained(NamedTuple):
    """What may be sent now: batches by the leader's node id, and topics whose leaders must be found."""

    by_node: dict[int, list[Batch]]
    leaderless: set[str]


Calls = list[Callable[[], object]]


class Accumulator:
    """All batches that are not yet acknowledged."""

    def __init__(
        self,
        limits: Limits,
        signal: Callable[[], None],
        choose: Callable[[int], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._now_ms = now_ms
        self._signal = signal
        self._choose = choose
        self._armed = False
        self._lingering = False
        self._active: dict[PartitionQueue, None] = {}
        self._flushes = 0
        self.buffer = Buffer(limits.batch_size, limits.buffer_memory, self._next_batch)
        self.topics = self.buffer.topics
        self._topic_ids: dict[str, bytes] = {}
        self.used_at_ms: dict[str, int] = {}
        """When each topic got its last batch, or was asked for."""
        self.incomplete: dict[Batch, None] = {}
        self.when_settled: Callable[[], object] | None = None
        """Called after each batch that is settled: who waits for room looks again."""
        self.producer_id = -1
        self.producer_epoch = -1

    # Taking records

    def topic(self, name: str) -> Topic:
        """The topic, made on first use."""
        found = self.topics.get(name)
        if found is None:
            found = self.topics[name] = Topic(name, StickyPartition(self._choose))
        return found

    @property
    def buffered_bytes(self) -> int:
        """What the buffer holds."""
        return self.buffer.buffered_bytes

    def has_room(self, size_bytes: int) -> bool:
        """Whether the buffer can take so much more."""
        return self.buffer.has_room(size_bytes)

    def update_topic(
        self,
        topic: Topic,
        partition_count: int,
        available: Sequence[int],
        topic_id: bytes = ZERO_ID,
    ) -> None:
        """Take over what the metadata say; partitions become fewer only where the topic was made anew."""
        for partition in range(len(topic.queues), partition_count):
            topic.queues.append(PartitionQueue(topic.name, partition))
        if topic_id != ZERO_ID and topic_id != self._topic_ids.get(topic.name, topic_id):
            topic.partition_count = partition_count
            for queue in topic.queues[partition_count:]:
                queue.close_open()  # what comes goes elsewhere
            for queue in topic.queues:
                queue.acknowledged = False  # its new leaders have not heard of us
        if topic_id != ZERO_ID:
            self._topic_ids[topic.name] = topic_id
        topic.partition_count = max(partition_count, topic.partition_count)
        topic.available = available or range(topic.partition_count)

    def _next_batch(self, topic: Topic, partition: int | None) -> Batch:
        now_ms = self.used_at_ms[topic.name] = self._now_ms()
        sticky = partition is None
        if partition is None:
            before = topic.sticky_batch
            partition = topic.sticky.at_batch_end(
                before.size_bytes if before else 0, topic.available
            )
        queue = topic.queues[partition]
        full = queue.open is not None
        limits = self._limits
        batch = queue.start_batch(now_ms + limits.linger_ms, now_ms + limits.delivery_timeout_ms)
        self._active[queue] = None
        self.incomplete[batch] = None
        if sticky:
            if topic.sticky_batch is not None and not topic.sticky_batch.closed:
                # Another partition's turn: what its last batch still waits for is only the linger.
                full = True
                topic.queues[topic.sticky_batch.partition].close_open()
            topic.sticky_batch = batch
        if self._armed and (full or not self._lingering):
            self._armed = False
            self._signal()
        return batch

    def arm(self, *, lingering: bool) -> None:
        """The sender sleeps: signal once, when a batch is full or (unless it lingers) begun."""
        self._armed = True
        self._lingering = lingering

    # Handing batches out

    def begin_flush(self) -> list[Batch]:
        """Let nothing linger until ``end_flush``; the batches that are under way now."""
        self._flushes += 1
        self._signal()
        return list(self.incomplete)

    def end_flush(self) -> None:
        """Linger again."""
        self._flushes -= 1

    def drain(
        self, leader_of: Callable[[str, int], int | None], free_slots: dict[int, int], now_ms: int
    ) -> Drained:
        """Everything that may go now, one batch a partition, at most ``free_slots`` requests a node.

        ``leader_of`` gives a partition's leader or None. A node without an entry has no slot.
        """
        by_node: dict[int, list[Batch]] = {}
        sizes: dict[int, int] = {}
        leaderless: set[str] = set()
        limits = self._limits
        hurry = self._flushes > 0 or self.buffered_bytes > limits.buffer_memory // 2
        most = limits.max_in_flight if self.producer_id >= 0 or not limits.idempotent else 0
        if not limits.idempotent:
            most = 1
        for queue in list(self._active):
            if queue.empty:
                del self._active[queue]
                continue
            if not queue.settle_sequences():
                self.producer_id = self.producer_epoch = -1
                break
            if not queue.drainable(now_ms, most, flushing=hurry):
                continue
            node = leader_of(queue.topic, queue.partition)
            if node is None:
                leaderless.add(queue.topic)
                continue
            size = sizes.get(node, 0)
            if not free_slots.get(node):
                continue
            if not queue.waiting:
                queue.close_open()  # before its size is relied on
            upcoming = queue.waiting[0]
            if size and size + upcoming.size_bytes > limits.max_request_size:
                continue
            by_node.setdefault(node, []).append(queue.drain(self.producer_id, self.producer_epoch))
            sizes[node] = size + upcoming.size_bytes
            del self._active[queue]  # to the end: the others' turn comes first next time
            self._active[queue] = None
        return Drained(by_node, leaderless)

    def next_look_ms(self, now_ms: int) -> int | None:
        """When something becomes due by time alone (linger, back-off, expiry); None for never."""
        due: int | None = None
        for queue in self._active:
            first = queue.waiting[0] if queue.waiting else queue.open
            if first is None:
                continue
            at = first.deadline_ms
            if queue.retry_at_ms > now_ms:
                at = min(at, queue.retry_at_ms)
            elif not queue.waiting:
                at = min(at, max(first.linger_until_ms, now_ms + 1))
            due = at if due is None else min(due, at)
        return due

    # Settling batches

    def complete(self, batch: Batch, base_offset: int, log_append_time_ms: int) -> Calls:
        """The broker has the batch; the calls to make once the lock is free."""
        batch.base_offset = base_offset
        batch.log_append_time_ms = log_append_time_ms
        queue = self._queue(batch)
        queue.in_flight.remove(batch)
        queue.acknowledged = True
        return self._finish(batch)

    def reject(self, batch: Batch, error: KafkaError, now_ms: int) -> Calls:
        """The request with the batch came to nothing: retry, split, renumber, or fail it for good."""
        queue = self._queue(batch)
        code = error.code
        batch.maybe_written = batch.maybe_written or code in _FATE_UNKNOWN
        if code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER and batch.base_sequence >= 0:
            return self.complete(batch, -1, -1)
        if code is ErrorCode.MESSAGE_TOO_LARGE and len(batch) > 1:
            return self._split(queue, batch)
        if code in _SEQUENCE_LOST and batch.base_sequence >= 0:
            if queue.is_first_outstanding(batch) and batch.producer_epoch == queue.epoch:
                queue.renumber = True
        elif not error.retriable:
            return self._fail(queue, batch, error)
        if now_ms >= batch.deadline_ms:
            timeout = DeliveryTimeout(f"{batch.topic}-{batch.partition}: {error}")
            return self._fail(queue, batch, timeout)
        batch.attempts += 1
        queue.put_back(batch)
        self._active[queue] = None
        backoff = self._limits.retry_backoff_ms * 2 ** min(batch.attempts - 1, 10)
        queue.retry_at_ms = now_ms + min(backoff, self._limits.retry_backoff_max_ms)
        return []

    def expire(self, now_ms: int) -> Calls:
        """Fail what has waited past its delivery time-out."""
        calls: Calls = []
        for queue in self._active:
            for batch in [*queue.waiting, *((queue.open,) if queue.open else ())]:
                if batch.deadline_ms > now_ms:
                    break
                reason = "not acknowledged" if batch.attempts else "could not be sent"
                error = DeliveryTimeout(f"{batch.topic}-{batch.partition}: {reason} in time")
                calls += self._fail(queue, batch, error)
        return calls

    def abandon(self, error: KafkaError) -> Calls:
        """Fail everything: the producer closes without waiting."""
        calls: Calls = []
        for batch in list(self.incomplete):
            calls += self._fail(self._queue(batch), batch, error)
        return calls

    def _split(self, queue: PartitionQueue, batch: Batch) -> Calls:
        queue.in_flight.remove(batch)
        del self.incomplete[batch]
        listeners, batch.listeners = batch.listeners, None
        halves = batch.split()
        for half in halves:
            self.incomplete[half] = None
        for half in reversed(halves):
            queue.put_back(half)
        self._active[queue] = None
        if not listeners:
            return []
        waiting = list(halves)

        def one_done() -> None:
            waiting.pop()
            if not waiting:
                for listener in listeners:
                    listener()

        for half in halves:
            half.listeners = [one_done]
        return []

    def _fail(self, queue: PartitionQueue, batch: Batch, error: KafkaError) -> Calls:
        batch.error = error
        batch.closed = True
        if batch in queue.in_flight:
            queue.in_flight.remove(batch)
        elif batch is queue.open:
            queue.open = None
        else:
            queue.waiting.remove(batch)
        queue.lost(batch, maybe_written=batch.maybe_written)
        return self._finish(batch)

    def _finish(self, batch: Batch) -> Calls:
        del self.incomplete[batch]
        self.buffer.release(batch)
        calls = batch.finish()
        if self.when_settled is not None:
            calls.append(self.when_settled)
        return calls

    def _queue(self, batch: Batch) -> PartitionQueue:
        return self.topics[batch.topic].queues[batch.partition]
