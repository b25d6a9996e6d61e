"""What a Fetch brought for one partition, and the records in it, decoded batch by batch when asked for.

Rules: a batch's checksum is verified before it is decoded; records below the position (the start of a
batch that was asked for in its middle) are left out; control batches are never handed out, and under
read_committed neither are the batches of aborted transactions (the broker says which: producer ids with
the offset from which on they are aborted, up to their abort marker). Source: ``CompletedFetch.java``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ottla.client.consumer.positions import PartitionState
from ottla.client.record import Record
from ottla.client.serializers import Deserializer
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.records.batch import BatchHeader, iter_batches, verify_crc
from ottla.records.codec import BatchDecoder, decode_batch, plain_records

ABORT_MARKER = 0

PIECE_RECORDS = 100
"""What is decoded at once at least. A poll for more gets just what is decoded for it: as a list that is its own, and from
memory that the poll before has let go of a moment ago."""


class Chunk(NamedTuple):
    """Records of one partition that are handed out together.

    ``end_offset`` is the position behind them, which may be past the last record's offset + 1 (control
    batches, compacted offsets); ``epoch`` is the last record's leader epoch.
    """

    state: PartitionState
    version: int
    records: list[Record]
    end_offset: int
    epoch: int


class DeserializationFailed(KafkaError):
    """A deserializer did not take a record. The position stays there: ``seek`` past it to go on."""

    def __init__(self, partition: TopicPartition, offset: int, cause: Exception) -> None:
        self.partition = partition
        self.offset = offset
        super().__init__(ErrorCode.INVALID_RECORD, f"{partition}@{offset}: {cause!r}")


class Reading(NamedTuple):
    """How records are read."""

    check_crcs: bool
    read_committed: bool
    key_deserializer: Deserializer | None
    value_deserializer: Deserializer | None


class FetchedPartition:
    """The batches of one partition in one answer."""

    __slots__ = (
        "_aborted",
        "_aborted_producers",
        "_batches",
        "_buffer",
        "_decoded",
        "_decoded_end",
        "_decoded_epoch",
        "_decoder",
        "_next",
        "_reading",
        "_taken",
        "end_offset",
        "last_epoch",
        "size_bytes",
        "state",
        "version",
    )

    def __init__(
        self,
        state: PartitionState,
        buffer: memoryview,
        aborted: Sequence[tuple[int, int]],
        reading: Reading,
    ) -> None:
        """``aborted`` are (first offset, producer id); raises ``KafkaError`` for bytes without a batch."""
        self.state = state
        self.version = state.version
        self.size_bytes = len(buffer)
        self._buffer = buffer
        self._batches: list[tuple[int, BatchHeader]] = list(iter_batches(buffer))
        self._next = 0
        self._decoder: BatchDecoder | None = None
        self._aborted = sorted(aborted, reverse=True)
        self._aborted_producers: set[int] = set()
        self._decoded: list[Record] = []
        self._taken = 0
        self._decoded_end = self._decoded_epoch = -1
        self._reading = reading
        if not self._batches:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE, f"{state.topic_partition}: no whole batch in the answer"
            )
        self.end_offset = self._batches[-1][1].next_offset
        self.last_epoch = self._batches[-1][1].leader_epoch

    @property
    def exhausted(self) -> bool:
        """Whether everything has been taken."""
        return not self._decoded and self._next == len(self._batches)

    def take(self, max_records: int) -> Chunk | None:
        """The next records, all of one batch; None when there are no more.

        A chunk may be empty: only its end counts then. Raises ``KafkaError`` for a corrupt batch.
        """
        if not self._decoded:
            if self._next == len(self._batches):
                return None
            self._decode_next(max(max_records, PIECE_RECORDS))
        first, after = self._taken, self._taken + max_records
        records = self._decoded
        whole = after >= len(records)
        if first or not whole:
            records = records[first:after]
        wanted = len(records)
        if (
            self._reading.key_deserializer is not None
            or self._reading.value_deserializer is not None
        ):
            records = self._convert(records)
        if whole and len(records) == wanted:
            self._decoded = []
            self._taken = 0
            end = self._decoded_end
        else:
            self._taken += len(records)
            end = records[-1].offset + 1
        return Chunk(self.state, self.version, records, end, self._decoded_epoch)

    def _decode_next(self, max_records: int) -> None:
        """The next records of a batch that are not before the position; none, perhaps, at its end."""
        at, header = self._batches[self._next]
        position = self.state.position
        if self._decoder is None:
            self._decoded_end = max(header.next_offset, position)
            self._decoded_epoch = header.leader_epoch
            if header.next_offset > position:
                if self._reading.check_crcs:
                    verify_crc(self._buffer, header, at)
                if not self._skipped(at, header):
                    self._decoder = BatchDecoder(
                        plain_records(self._buffer, header, position=at),
                        header,
                        Record,
                        *self.state.topic_partition,
                    )
            if self._decoder is None:
                self._next += 1
                return
        decoder = self._decoder
        records: list[Record] = []
        try:
            while not records and not decoder.exhausted:
                records = decoder.take(max_records)
                if records and records[0].offset < position:
                    records = [record for record in records if record.offset >= position]
        except KafkaError:
            self._decoder = None
            raise
        end = header.next_offset if decoder.exhausted else records[-1].offset + 1
        self._decoded_end = max(end, position)
        self._decoded = records
        if decoder.exhausted:
            self._decoder = None
            self._next += 1

    def _skipped(self, at: int, header: BatchHeader) -> bool:
        """Whether the batch is not for the application: control, or aborted."""
        if self._reading.read_committed and header.producer_id >= 0:
            while self._aborted and self._aborted[-1][0] <= header.last_offset:
                self._aborted_producers.add(self._aborted.pop()[1])
            if header.is_control:
                if self._is_abort_marker(at, header):
                    self._aborted_producers.discard(header.producer_id)
            elif header.is_transactional and header.producer_id in self._aborted_producers:
                return True
        return header.is_control

    def _is_abort_marker(self, at: int, header: BatchHeader) -> bool:
        records = decode_batch(self._buffer, position=at, header=header)
        if not records or records[0].key is None or len(records[0].key) < 4:
            return False
        _, kind = struct.unpack_from(">hh", records[0].key)
        return bool(kind == ABORT_MARKER)

    def _convert(self, stored: Sequence[Record]) -> list[Record]:
        head = self.state.topic_partition
        read_key, read_value = self._reading.key_deserializer, self._reading.value_deserializer
        records: list[Record] = []
        for record in stored:
            key, value = record.key, record.value
            try:
                if key is not None and read_key is not None:
                    key = read_key(key)
                if value is not None and read_value is not None:
                    value = read_value(value)
            except Exception as error:
                if records:
                    break  # first those before it; the next call comes back here
                raise DeserializationFailed(head, record.offset, error) from error
            records.append(
                Record(*head, record.offset, record.timestamp_ms, key, value, record.headers)
            )
        return records
