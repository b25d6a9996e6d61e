"""One partition's batches on their way out: order, what is in flight, and sequence numbers.

The rules that keep records in order and single:
- A batch gets its sequence when it is first drained; a retry goes back to its place by order and keeps it.
- Without idempotence at most one batch is in flight, so that a retry cannot overtake.
- Until the broker has acknowledged a first batch, nothing is in flight beside it: a broker that knows nothing
  of a producer id takes any sequence, so that a second batch could get in where the first was refused.
- A retried batch goes alone: nothing else is in flight beside it until it is settled. Until then an
  OUT_OF_ORDER_SEQUENCE_NUMBER of a later batch only says that it came too early.
- When a sequence is lost (a batch failed for good, or its fate is unknown), nothing new is drained until
  everything that has a sequence is settled; then the partition's epoch rises and its sequences start at
  0. The broker takes a higher epoch as a fresh start. A batch that may be in the log is never sent
  under another epoch, because that would double it.
- A partition whose epochs are used up goes on with a new producer id, the others with theirs: what is in
  flight there could be overtaken under an id that its leader does not know.
Source: ``RecordAccumulator.java``, ``TransactionManager.java``, KIP-360, KIP-679.
"""

from __future__ import annotations

from collections import deque

from ottla.client.producer.chosen_intake import Batch

MAX_EPOCH = 0x7FFF


class PartitionQueue:
    """The batches of one partition. All times in milliseconds of one clock that never goes back."""

    __slots__ = (
        "acknowledged",
        "epoch",
        "gap",
        "in_flight",
        "next_order",
        "next_sequence",
        "open",
        "partition",
        "producer_id",
        "renumber",
        "retry_at_ms",
        "topic",
        "waiting",
    )

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.open: Batch | None = None
        self.waiting: deque[Batch] = deque()
        self.in_flight: list[Batch] = []
        self.next_order = 0
        self.retry_at_ms = 0
        self.producer_id = -1
        self.epoch = -1
        self.acknowledged = False
        self.next_sequence = 0
        self.gap = False
        self.renumber = False

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return self.open is None and not self.waiting and not self.in_flight

    def start_batch(self, linger_until_ms: int, deadline_ms: int) -> Batch:
        """A new open batch behind all others; the one that was open is closed."""
        self.close_open()
        batch = self.open = Batch(
            self.topic, self.partition, (self.next_order,), linger_until_ms, deadline_ms
        )
        self.next_order += 1
        return batch

    def close_open(self) -> None:
        """No more records into the open batch: it waits to be drained."""
        if self.open is not None:
            self.open.closed = True
            self.waiting.append(self.open)
            self.open = None

    def drainable(self, now_ms: int, max_in_flight: int, *, flushing: bool) -> bool:
        """Whether the first batch may be sent now."""
        if len(self.in_flight) >= max_in_flight or now_ms < self.retry_at_ms:
            return False
        if self.in_flight and self.producer_id >= 0 and not self.acknowledged:
            return False
        if self.waiting:
            first = self.waiting[0]
            if first.base_sequence >= 0 or first.attempts:
                return not self.in_flight
            return not self.gap and not self.renumber and not self._retry_in_flight()
        return (
            self.open is not None
            and not self.gap
            and not self.renumber
            and not self._retry_in_flight()
            and (flushing or now_ms >= self.open.linger_until_ms)
        )

    def _retry_in_flight(self) -> bool:
        return bool(self.in_flight) and self.in_flight[0].attempts > 0

    def drain(self, producer_id: int, producer_epoch: int) -> Batch:
        """Take the first batch for sending; ``producer_id`` is -1 without idempotence."""
        if not self.waiting:
            self.close_open()
        batch = self.waiting.popleft()
        if producer_id >= 0 and batch.base_sequence < 0:
            if self.producer_id < 0:
                self.producer_id, self.epoch, self.next_sequence = producer_id, producer_epoch, 0
            batch.producer_id = self.producer_id
            batch.producer_epoch = self.epoch
            batch.base_sequence = self.next_sequence
            batch.payload = None
            self.next_sequence = (self.next_sequence + len(batch)) & 0x7FFFFFFF
        self.in_flight.append(batch)
        return batch

    def put_back(self, batch: Batch) -> None:
        """Return a batch from flight, or a part of one, to its place among the waiting."""
        if batch in self.in_flight:
            self.in_flight.remove(batch)
        position = next(
            (i for i, other in enumerate(self.waiting) if other.order > batch.order),
            len(self.waiting),
        )
        self.waiting.insert(position, batch)

    def is_first_outstanding(self, batch: Batch) -> bool:
        """Whether no batch before this one is unsettled: then its sequence is truly the next one."""
        return not any(
            other.base_sequence >= 0 and other.order < batch.order
            for group in (self.in_flight, self.waiting)
            for other in group
        )

    def lost(self, batch: Batch, *, maybe_written: bool) -> None:
        """A batch with a sequence failed for good and left the queue."""
        if batch.base_sequence < 0:
            return
        if maybe_written:
            self.gap = True
            return
        outstanding = self.in_flight or any(other.base_sequence >= 0 for other in self.waiting)
        if not outstanding and not self.gap and batch.producer_epoch == self.epoch:
            self.next_sequence = batch.base_sequence  # the last one given: as if never taken
        else:
            self.renumber = True

    def settle_sequences(self) -> bool:
        """Start a new epoch if one is due and nothing of the old one can still be written.

        False when the epochs are used up: the producer needs a new id then.
        """
        if self.in_flight or not (self.gap or self.renumber):
            return True
        if not self.renumber and any(batch.base_sequence >= 0 for batch in self.waiting):
            return True  # a batch of unknown fate first asks again under its old sequence
        for batch in self.waiting:
            batch.base_sequence = batch.producer_epoch = batch.producer_id = -1
            batch.payload = None
        self.gap = self.renumber = False
        self.next_sequence = 0
        self.epoch += 1
        if self.epoch > MAX_EPOCH:
            self.producer_id = -1
            self.acknowledged = False
            return False
        return True
