"""What a partition remembers of its idempotent producers, and what that lets through. Sans-IO.

The rules kept here (KIP-98, ``ProducerStateManager``, ``ProducerAppendInfo``, ``ProducerStateEntry``):

- A batch with the epoch and the exact sequence range of one of its producer's last five batches is
  that batch again: it is answered with the offset it got then, and not appended.
- One whose sequences all lie behind the last one was appended, too, as sequences have no gaps; only its
  offset is forgotten. It is DUPLICATE_SEQUENCE_NUMBER, which clients take for success. (Kafka answers
  OUT_OF_ORDER_SEQUENCE_NUMBER, on which clients send the records again under a new epoch: after a crash,
  where a snapshot keeps one batch of each producer, that doubles what was in flight.) It is a success only once
  that is committed (``AlreadyAppended``). But what lies before
  the first batch that this leader saw of a producer may have been refused: that is out of order.
- An older epoch is fenced; a newer one starts at sequence 0; otherwise the sequence continues, and
  wraps from 2^31 - 1 to 0. A producer of which nothing is known may start anywhere (its records may
  have been deleted).
- What replication and recovery bring is believed: the leader has checked it.
- A producer that has been silent for ``producer.id.expiration.ms`` is forgotten, unless it has a
  transaction open.

Transactions are followed only as far as the snapshot has to tell of them: where each open one starts.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.records.batch import SEQUENCE_MODULUS, BatchHeader, Bytes

BATCHES_KEPT = 5
"""The most batches of a producer that may be in flight, so the most that may come twice."""

NO_EPOCH = -1
NO_SEQUENCE = -1
NO_TIMESTAMP_MS = -1
NO_TRANSACTION = -1

_MARKER_KEY = Struct(">hh")
_MARKER_VALUE = Struct(">hi")
_MARKER_BYTES_MAX = 1 << 16
_ABORT, _COMMIT = 0, 1


class AlreadyAppended(KafkaError):
    """A batch is in the log, at an offset that is forgotten (DUPLICATE_SEQUENCE_NUMBER).

    Clients take that for success, so who asked for acks=all may hear it only once all below ``end_offset``, where the
    producer's records end, is committed.
    """

    def __init__(self, end_offset: int, message: str) -> None:
        super().__init__(ErrorCode.DUPLICATE_SEQUENCE_NUMBER, message)
        self.end_offset = end_offset


class AppendedBatch(NamedTuple):
    """A batch that a producer wrote: what a duplicate of it is answered with."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp_ms: int

    @property
    def first_sequence(self) -> int:
        """The first record's sequence."""
        return (self.last_sequence - self.offset_delta) % SEQUENCE_MODULUS

    @property
    def first_offset(self) -> int:
        """The first record's offset."""
        return self.last_offset - self.offset_delta


class ProducerEntry:
    """One producer: its epoch, its last batches (oldest first) and its open transaction."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "epoch",
        "last_timestamp_ms",
        "producer_id",
        "starts_at",
        "transaction_first_offset",
    )

    def __init__(
        self,
        producer_id: int,
        epoch: int = NO_EPOCH,
        *,
        coordinator_epoch: int = -1,
        last_timestamp_ms: int = NO_TIMESTAMP_MS,
        transaction_first_offset: int = NO_TRANSACTION,
        batches: list[AppendedBatch] | None = None,
    ) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.coordinator_epoch = coordinator_epoch
        self.last_timestamp_ms = last_timestamp_ms
        self.transaction_first_offset = transaction_first_offset
        self.batches: list[AppendedBatch] = batches if batches is not None else []
        self.starts_at = NO_SEQUENCE
        """The sequence before which this leader knows of nothing; ``NO_SEQUENCE`` where that was appended."""

    def copy(self) -> ProducerEntry:
        """As it is now."""
        copied = ProducerEntry(
            self.producer_id,
            self.epoch,
            coordinator_epoch=self.coordinator_epoch,
            last_timestamp_ms=self.last_timestamp_ms,
            transaction_first_offset=self.transaction_first_offset,
            batches=list(self.batches),
        )
        copied.starts_at = self.starts_at
        return copied

    def __repr__(self) -> str:
        return (
            f"ProducerEntry({self.producer_id}, epoch={self.epoch}, "
            f"last_sequence={self.last_sequence}, last_offset={self.last_offset})"
        )

    @property
    def last_sequence(self) -> int:
        """The sequence of the last record, -1 without one."""
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    @property
    def last_offset(self) -> int:
        """The offset of the last record, -1 without one."""
        return self.batches[-1].last_offset if self.batches else -1

    @property
    def offset_delta(self) -> int:
        """The last batch's size in offsets, less one."""
        return self.batches[-1].offset_delta if self.batches else 0

    def is_expired(self, now_ms: int, expiration_ms: int) -> bool:
        """Whether the producer has been silent for ``expiration_ms`` with no transaction open."""
        return (
            self.transaction_first_offset == NO_TRANSACTION
            and now_ms - self.last_timestamp_ms >= expiration_ms
        )

    def add(self, header: BatchHeader, base_offset: int, timestamp_ms: int) -> None:
        """The producer's batch got ``base_offset`` as its first offset."""
        if header.producer_epoch != self.epoch:
            self.batches.clear()
            self.epoch = header.producer_epoch
            self.starts_at = NO_SEQUENCE
        elif len(self.batches) >= BATCHES_KEPT:
            del self.batches[0]
            self.starts_at = NO_SEQUENCE  # what came before it is not in flight any more
        delta = header.last_offset_delta
        self.batches.append(
            AppendedBatch(header.last_sequence, base_offset + delta, delta, timestamp_ms)
        )
        self.last_timestamp_ms = timestamp_ms

    def end_transaction(self, epoch: int, coordinator_epoch: int, timestamp_ms: int) -> None:
        """A transaction marker was written: the producer starts again at sequence 0 if epochs differ."""
        if epoch != self.epoch:
            self.batches.clear()
            self.epoch = epoch
        self.coordinator_epoch = coordinator_epoch
        self.transaction_first_offset = NO_TRANSACTION
        self.last_timestamp_ms = timestamp_ms


class ProducerState:
    """The producers of one partition.

    ``end_offset`` is the offset behind the last batch that is accounted for; ``snapshot_offset`` the
    one that the newest snapshot was taken at.
    """

    __slots__ = ("end_offset", "producers", "snapshot_offset")

    def __init__(self, end_offset: int = 0) -> None:
        self.producers: dict[int, ProducerEntry] = {}
        self.end_offset = end_offset
        self.snapshot_offset = 0

    def check(self, header: BatchHeader, *, sequences: bool = True) -> AppendedBatch | None:
        """Whether the batch of an idempotent producer may be appended.

        Returns the batch it is a duplicate of, or None if it is new. ``sequences`` is False for
        appends by a coordinator, which carry none. Changes nothing.

        Raises ``KafkaError``: INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER or
        DUPLICATE_SEQUENCE_NUMBER (``AlreadyAppended``).
        """
        entry = self.producers.get(header.producer_id)
        if entry is None:
            return None
        epoch = header.producer_epoch
        if sequences and epoch == entry.epoch:
            last, first = header.last_sequence, header.base_sequence
            for batch in entry.batches:
                if batch.last_sequence == last and batch.first_sequence == first:
                    return batch
        if epoch < entry.epoch:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"epoch {epoch} of producer {header.producer_id} is older than {entry.epoch}",
            )
        if sequences:
            _check_sequence(entry, header)
        return None

    def update(
        self, header: BatchHeader, base_offset: int, timestamp_ms: int, *, is_live: bool = False
    ) -> None:
        """A data batch of a producer was appended at ``base_offset``; its largest timestamp is given.

        ``is_live``: by the leader, just now. If the producer was not known, what it sent before this
        may have been refused.
        """
        producer_id = header.producer_id
        entry = self.producers.get(producer_id)
        if entry is None:
            entry = self.producers[producer_id] = ProducerEntry(producer_id)
            entry.add(header, base_offset, timestamp_ms)
            if is_live and header.base_sequence > 0:
                entry.starts_at = header.base_sequence
        else:
            entry.add(header, base_offset, timestamp_ms)
        if header.is_transactional and entry.transaction_first_offset == NO_TRANSACTION:
            entry.transaction_first_offset = base_offset

    def expect(self, header: BatchHeader) -> None:
        """The first batch of a producer was lost to a failed write: its next ones wait until it is there."""
        if header.base_sequence == 0 and header.producer_id not in self.producers:
            self.producers[header.producer_id] = ProducerEntry(
                header.producer_id, header.producer_epoch, last_timestamp_ms=header.max_timestamp_ms
            )

    def replay(self, header: BatchHeader, read_batch: Callable[[], Bytes]) -> None:
        """Take over a batch of a producer that the leader, or this log in an earlier life, let through.

        ``read_batch`` gives its bytes; they are asked for only if it is a transaction marker.
        Raises ``CorruptBatch`` if such a one can't be read.
        """
        if not header.is_control:
            self.update(header, header.base_offset, header.max_timestamp_ms)
            return
        coordinator_epoch = _marker_epoch(read_batch())
        if coordinator_epoch is not None:
            self.end_transaction(header, coordinator_epoch)

    def end_transaction(self, header: BatchHeader, coordinator_epoch: int) -> None:
        """A transaction marker of the producer is in the log."""
        entry = self.producers.get(header.producer_id)
        if entry is None:
            entry = self.producers[header.producer_id] = ProducerEntry(header.producer_id)
        entry.end_transaction(header.producer_epoch, coordinator_epoch, header.max_timestamp_ms)

    @property
    def first_undecided_offset(self) -> int | None:
        """Where the oldest open transaction starts; None if none is open."""
        return min(
            (
                entry.transaction_first_offset
                for entry in self.producers.values()
                if entry.transaction_first_offset != NO_TRANSACTION
            ),
            default=None,
        )

    def remove_expired(self, now_ms: int, expiration_ms: int) -> int:
        """Forget the producers that were silent for too long; returns how many."""
        expired = [
            producer_id
            for producer_id, entry in self.producers.items()
            if entry.is_expired(now_ms, expiration_ms)
        ]
        for producer_id in expired:
            del self.producers[producer_id]
        return len(expired)

    def clear(self, end_offset: int) -> None:
        """Forget every producer; the log goes on at ``end_offset``."""
        self.producers.clear()
        self.end_offset = end_offset
        self.snapshot_offset = 0


def _marker_epoch(batch: Bytes) -> int | None:
    """The coordinator epoch of the commit or abort marker in a control batch; None if it has none.

    Key: int16 version, int16 type (0 abort, 1 commit); value: int16 version, int32 coordinator epoch
    (``EndTransactionMarker``).
    """
    from ottla.records.codec import decode_batch

    for record in decode_batch(batch, max_decompressed_bytes=_MARKER_BYTES_MAX):
        if record.key is None or record.value is None:
            return None
        if len(record.key) < _MARKER_KEY.size or len(record.value) < _MARKER_VALUE.size:
            return None
        if _MARKER_KEY.unpack_from(record.key)[1] in (_ABORT, _COMMIT):
            epoch: int = _MARKER_VALUE.unpack_from(record.value)[1]
            return epoch
        return None
    return None


def _check_sequence(entry: ProducerEntry, header: BatchHeader) -> None:
    first = header.base_sequence
    if header.producer_epoch != entry.epoch:
        if first != 0 and entry.epoch != NO_EPOCH:
            raise _out_of_order(header, f"must start at 0 in its new epoch {header.producer_epoch}")
        return
    last = entry.last_sequence
    if entry.epoch == NO_EPOCH or first == (last + 1) % SEQUENCE_MODULUS:
        return
    was_appended = (
        entry.starts_at == NO_SEQUENCE
        or (first - entry.starts_at) % SEQUENCE_MODULUS < SEQUENCE_MODULUS // 2
    )
    is_behind = (last - header.last_sequence) % SEQUENCE_MODULUS < SEQUENCE_MODULUS // 2
    if entry.batches and is_behind and was_appended:
        raise AlreadyAppended(
            entry.last_offset + 1,
            f"sequence {first} of producer {header.producer_id} is there, it has reached {last}",
        )
    raise _out_of_order(header, f"follows {last}")


def _out_of_order(header: BatchHeader, why: str) -> KafkaError:
    return KafkaError(
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        f"sequence {header.base_sequence} of producer {header.producer_id} {why}",
    )
