"""The log of one partition: appended to, read, rolled, flushed and cut.

The rules kept here:

- A batch is checked, stamped with its offset and epoch in place, and written as it came, in one call.
  It is in the log (``log_end_offset``) only when all of it is written; a write that fails leaves nothing.
- ``log_start_offset`` and ``flushed_end_offset`` are at most ``log_end_offset``; the start never goes
  back. What is below ``flushed_end_offset`` survives a power loss.
- Nothing here waits for the disk to sync: see ``begin_flush``.
- Once the directory is offline, or the log closed, deleted or found corrupt, every operation raises
  KAFKA_STORAGE_ERROR.

A log belongs to one thread (the event loop's). Sources: ``UnifiedLog``, ``LocalLog``.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EEXIST
from functools import partial
from typing import Any, NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.log.disk import Disk
from ottla.log.health import DirectoryHealth
from ottla.log.leader_epochs import EpochEnd, LeaderEpochs
from ottla.log.loading import LoadedLog, load_log
from ottla.log.local_log import LocalLog
from ottla.log.names import directory_name
from ottla.log.producer_state import AppendedBatch, ProducerState
from ottla.log.reading import LogRead, read_batches
from ottla.log.rules import LogRules
from ottla.log.search import TimestampAndOffset, find_max_timestamp, find_timestamp
from ottla.log.segment import Segment, TornWrite
from ottla.log.segments import Segments
from ottla.log.trash import Trash
from ottla.log.validation import check_client_batch, check_keys, is_plain
from ottla.records.batch import (
    CRC_COVERS_FROM,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    BatchHeader,
    Bytes,
    CorruptBatch,
    InvalidRecord,
    UnsupportedMagic,
    iter_batches,
    pack_place,
    read_header,
    stamp,
    stamp_log_append_time,
    unpack_header,
    verify_crc,
)
from ottla.records.crc import crc32c
from ottla.settings.definitions import TopicConfig

NO_TIMESTAMP_MS = -1

GATHERED_BYTES_MAX = 16 * 1024
"""A larger batch is written at once: copying it together with others would cost what a call saves."""


class AppendInfo(NamedTuple):
    """What became of an append. Offsets are inclusive; ``log_append_time_ms`` is -1 for CreateTime."""

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    log_start_offset: int
    record_count: int
    size_bytes: int
    duplicate: bool = False
    leader_epoch: int = -1
    """The epoch of the leadership that it was appended in, where the append waited for its turn; -1 if it did not."""


_new = tuple.__new__  # a named tuple's own constructor costs twice as much


class UnexpectedAppendOffset(KafkaError):
    """A leader sent batches that do not follow the log's end (UNKNOWN_SERVER_ERROR)."""

    def __init__(self, first_offset: int, log_end_offset: int) -> None:
        self.first_offset = first_offset
        super().__init__(
            ErrorCode.UNKNOWN_SERVER_ERROR,
            f"offset {first_offset} is less than the log end offset {log_end_offset}",
        )


class Log(LocalLog):
    """One partition's log. Made by ``Log.create`` or ``Log.open``, mostly through a ``LogDirectory``.

    ``topic``, ``partition``, ``topic_id`` (16 bytes, ``ZERO_ID`` if unknown); ``directory`` is the path
    of its files; ``config`` the topic's settings. ``on_flushed`` is called after each completed flush,
    ``on_flush_wanted`` when the log itself asks for one (a roll, ``flush.messages``): both on the log's
    thread, with the log.
    """

    __slots__ = ()

    @classmethod
    def create(
        cls,
        disk: Disk,
        parent: str,
        topic: str,
        partition: int,
        topic_id: bytes,
        config: TopicConfig,
        now_ms: int,
        *,
        health: DirectoryHealth | None = None,
        trash: Trash | None = None,
    ) -> Log:
        """The empty log of a new partition, to lie in the directory ``parent``.

        Nothing is written before the first batch is: creating files is slow, a group's coordinator
        wants fifty partitions at once, and most stay empty. A partition without records needs no
        directory: whoever knows that it exists makes its log again, here or in Apache Kafka. With the
        first batch come the directory, partition.metadata and the segment, unsynced; the first flush
        syncs them all and the directory's name in ``parent``, before anything counts as durable.

        Raises ``FileExistsError`` if there is such a directory.
        """
        directory = f"{parent}/{directory_name(topic, partition)}"
        if disk.exists(directory):
            raise FileExistsError(EEXIST, "partition directory exists", directory)
        rules = LogRules(config)
        loaded = LoadedLog(
            topic=topic,
            partition=partition,
            topic_id=topic_id,
            rules=rules,
            segments=Segments([Segment(disk, directory, 0, rules, now_ms)]),
            epochs=LeaderEpochs(),
            producers=ProducerState(),
            log_start_offset=0,
            log_end_offset=0,
            flushed_end_offset=0,
        )
        made = cls(disk, directory, config, loaded, now_ms, health=health, trash=trash)
        made.is_on_disk = False
        return made

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        config: TopicConfig,
        now_ms: int,
        *,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        clean: bool = False,
        sync: bool = True,
        health: DirectoryHealth | None = None,
        trash: Trash | None = None,
    ) -> Log:
        """Load the log of an existing partition directory; without a clean stop, recover it.

        ``recovery_point`` and ``log_start_offset`` are the checkpointed ones. Recovery reads all from
        the recovery point's segment on, and syncs what it leaves, so that nothing is served that a power
        loss could take back (with ``sync=False`` that is for the caller to do): run it off the loop.

        Raises ``CorruptLog`` or ``QuarantinedLog`` (KafkaErrors) for damage below the recovery point,
        ``OSError`` for the disk's, ``KafkaError`` (KAFKA_STORAGE_ERROR) if the sync fails.
        """
        loaded = load_log(
            disk,
            directory,
            LogRules(config),
            now_ms,
            recovery_point=recovery_point,
            log_start_checkpoint=log_start_offset,
            clean=clean,
        )
        opened = cls(disk, directory, config, loaded, now_ms, health=health, trash=trash)
        if sync:
            opened.flush(now_ms)
        return opened

    def __repr__(self) -> str:
        return (
            f"Log({self.topic}-{self.partition}, {self.log_start_offset}..{self.log_end_offset}, "
            f"flushed to {self.flushed_end_offset})"
        )

    # Appending

    def append_as_leader(
        self,
        records: bytearray | memoryview,
        leader_epoch: int,
        now_ms: int,
        from_client: bool = True,
        keys_checked: bool = False,
        gathered: bool = False,
    ) -> AppendInfo:
        """Give the batch in ``records`` the next offsets, in place, and append it.

        A client sends exactly one batch; with ``from_client=False`` (coordinators) there may be several,
        which are trusted but for their checksums, and appended together or not at all.

        ``keys_checked``: the caller has done what ``check_keys`` does.

        ``gathered``: a small batch may be left in memory, to be written together with the next ones. The
        caller calls ``write_gathered`` before anybody else uses the log or hears of the append, and
        asks ``kept`` whether it was.

        Raises ``KafkaError``: what ``check_client_batch`` and ``check_keys`` refuse, CORRUPT_MESSAGE,
        UNSUPPORTED_FOR_MESSAGE_FORMAT, RECORD_LIST_TOO_LARGE, OUT_OF_ORDER_SEQUENCE_NUMBER,
        INVALID_PRODUCER_EPOCH, KAFKA_STORAGE_ERROR. Nothing is appended then.
        """
        if self._unusable is not None or self.health.failure is not None:
            self.check_usable()
        if len(records) < HEADER_BYTES:
            read_header(records)  # says what is wrong with it
        rules = self.rules
        fields = unpack_header(records)
        crc, producer_id = fields[4], fields[9]
        if not is_plain(fields, len(records), rules, now_ms):
            header = read_header(records)
            if from_client:
                check_client_batch(records, header, rules, now_ms)
            elif LOG_OVERHEAD_BYTES + header.length != len(records):
                return self._append_several(records, leader_epoch, now_ms)
        if crc32c(records[CRC_COVERS_FROM:]) != crc:
            verify_crc(records, read_header(records))  # raises
        producer = None
        if producer_id >= 0:
            producer = _new(BatchHeader, fields)
            duplicate = self.producers.check(producer, sequences=from_client)
            if duplicate is not None:
                return self._duplicate(duplicate, producer)
        if rules.compact and from_client and not keys_checked:
            check_keys(records)
        if len(records) > rules.segment_bytes:
            raise _too_large_for_segment(len(records), rules)
        try:
            return self._append_batch(records, fields, producer, leader_epoch, now_ms, gathered)
        except KafkaError:
            if producer is not None:
                self.producers.expect(producer)
            raise

    def _append_batch(
        self,
        records: bytearray | memoryview,
        fields: tuple[Any, ...],
        producer: BatchHeader | None,
        leader_epoch: int,
        now_ms: int,
        gathered: bool,
    ) -> AppendInfo:
        """Stamp and write one batch that was found good.

        ``fields`` are its header's; ``producer`` is the header, if an idempotent producer wrote the batch.
        """
        rules = self.rules
        _, length, _, _, _, _, delta, _, timestamp_ms, _, _, _, count = fields
        size = LOG_OVERHEAD_BYTES + length
        if not gathered or size > GATHERED_BYTES_MAX:
            gathered = False
            self.write_gathered(now_ms)  # what came before it is written before it
        base_offset = self.log_end_offset
        last_offset = base_offset + delta
        pack_place(records, 0, base_offset, length, leader_epoch)
        if rules.log_append_time:
            timestamp_ms = now_ms
            stamp_log_append_time(records, now_ms)
        segment = self._segments.active
        try:
            if not self.is_on_disk:
                self.make_directory()
            elif segment.should_roll(size, timestamp_ms, last_offset, now_ms):
                segment = self.roll(now_ms, base_offset)
            if gathered:
                segment.append_gathered(records, base_offset, last_offset, timestamp_ms)
                if producer is not None:
                    self._note_gathered_producer(producer)
            else:
                segment.append(records, base_offset, last_offset, timestamp_ms)
        except OSError as error:
            raise self._write_failed(error) from error

        self.log_end_offset = self.producers.end_offset = last_offset + 1
        if leader_epoch != self._epochs.latest and leader_epoch >= 0:
            self._epochs.assign(leader_epoch, base_offset)
        if producer is not None:
            self.producers.update(producer, base_offset, timestamp_ms, is_live=True)
        if last_offset + 1 - self.flushed_end_offset >= rules.flush_messages:
            self.want_flush()
        appended_ms = timestamp_ms if rules.log_append_time else NO_TIMESTAMP_MS
        start = self.log_start_offset
        info = (base_offset, last_offset, appended_ms, start, count, size, False, -1)
        return _new(AppendInfo, info)

    def _duplicate(self, batch: AppendedBatch, header: BatchHeader) -> AppendInfo:
        return AppendInfo(
            batch.first_offset,
            batch.last_offset,
            batch.timestamp_ms if self.rules.log_append_time else NO_TIMESTAMP_MS,
            self.log_start_offset,
            header.record_count,
            LOG_OVERHEAD_BYTES + header.length,
            True,
        )

    def _append_several(
        self, records: bytearray | memoryview, leader_epoch: int, now_ms: int
    ) -> AppendInfo:
        """Several batches of a coordinator, all or none, in one segment."""
        batches = list(iter_batches(records))
        if sum(header.size_bytes for _, header in batches) != len(records):
            raise CorruptBatch("the last batch is not there as a whole")
        if len(records) > self.rules.segment_bytes:
            raise _too_large_for_segment(len(records), self.rules)
        for position, header in batches:
            verify_crc(records, header, position)
            if header.last_offset_delta != header.record_count - 1:
                raise InvalidRecord("the last offset delta is not the number of records less one")
        base_offset = offset = self.log_end_offset
        stamped = []
        for position, header in batches:
            stamp(records, offset, leader_epoch, position)
            if self.rules.log_append_time:
                stamp_log_append_time(records, now_ms, position)
            stamped.append(read_header(records, position))
            offset += header.record_count
        self._append_run(memoryview(records), stamped, now_ms)
        return AppendInfo(
            base_offset,
            offset - 1,
            now_ms if self.rules.log_append_time else NO_TIMESTAMP_MS,
            self.log_start_offset,
            offset - base_offset,
            len(records),
        )

    def append_as_follower(
        self, records: Bytes, now_ms: int, *, epoch_max: int | None = None
    ) -> AppendInfo | None:
        """Append what the leader sent, with the offsets and epochs that it has.

        A partial batch at the end (a fetch is cut at a number of bytes) is left out; None if nothing
        else was there. With ``epoch_max`` a batch of a later leader epoch, or of an earlier one than the log's
        last, is corrupt. Raises ``KafkaError``: CORRUPT_MESSAGE, UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KAFKA_STORAGE_ERROR, or ``UnexpectedAppendOffset``. A failed write may come after whole runs of
        batches were appended: ``log_end_offset`` says how far.
        """
        self.check_usable()
        view = memoryview(records)
        batches = list(iter_batches(view))
        if not batches:
            return None
        expected = self.log_end_offset
        epoch = self._epochs.latest
        for position, header in batches:
            verify_crc(view, header, position)
            if header.base_offset < expected or header.last_offset_delta < 0:
                raise UnexpectedAppendOffset(header.base_offset, expected)
            expected = header.next_offset
            if epoch_max is not None:
                if not epoch <= header.leader_epoch <= epoch_max:
                    raise CorruptBatch(
                        f"leader epoch {header.leader_epoch} after {epoch}, in epoch {epoch_max}"
                    )
                epoch = header.leader_epoch
        start, run = 0, list[BatchHeader]()
        for (
            position,
            header,
        ) in batches:  # segments end where the leader's do: each batch is looked at
            end = position + header.size_bytes
            active = self._segments.active
            rolls = self._rolls(active, end - start, header, now_ms)
            if rolls and run:
                self._append_run(view[start:position], run, now_ms)
                start, run = position, []
            run.append(header)
            if rolls or not active.size_bytes or active.may_fill_indexes(end - start):
                self._append_run(view[start:end], run, now_ms)
                start, run = end, []
        if run:
            self._append_run(view[start:end], run, now_ms)
        first, last = batches[0][1], batches[-1][1]
        return AppendInfo(
            first.base_offset,
            last.last_offset,
            NO_TIMESTAMP_MS,
            self.log_start_offset,
            sum(header.record_count for _, header in batches),
            end,
        )

    def _rolls(self, active: Segment, size_bytes: int, last: BatchHeader, now_ms: int) -> bool:
        try:
            return active.should_roll(size_bytes, last.max_timestamp_ms, last.last_offset, now_ms)
        except OSError as error:
            raise self._write_failed(error) from error

    def _append_run(self, run: memoryview, headers: list[BatchHeader], now_ms: int) -> None:
        """Append batches that have their places, with one write into one segment."""
        first, last = headers[0], headers[-1]
        timestamp_ms = max(header.max_timestamp_ms for header in headers)
        self.write_gathered(now_ms)
        segment = self._segments.active
        if not self.is_on_disk:
            self.make_directory()
        try:
            if segment.should_roll(len(run), timestamp_ms, last.last_offset, now_ms):
                segment = self.roll(now_ms, first.base_offset)
            segment.append_run(run, headers)
        except OSError as error:
            raise self._write_failed(error) from error
        self.log_end_offset = self.producers.end_offset = last.next_offset
        position = 0
        for header in headers:
            if header.leader_epoch >= 0 and header.leader_epoch != self._epochs.latest:
                self._epochs.assign(header.leader_epoch, header.base_offset)
            size = header.size_bytes
            if header.producer_id >= 0:
                self.producers.replay(header, partial(_slice, run, position, size))
            position += size
        if self.log_end_offset - self.flushed_end_offset >= self.rules.flush_messages:
            self.want_flush()

    def _write_failed(self, error: OSError) -> KafkaError:
        if isinstance(error, TornWrite):
            self.health.fail(error)
        return self.health.failed_operation(f"append to {self.directory} failed", error)

    # Reading

    def read(
        self,
        start_offset: int,
        max_bytes: int,
        limit_offset: int,
        *,
        at_least_one: bool = True,
    ) -> LogRead:
        """The batches from the one with ``start_offset`` on, as regions of files.

        Cut at ``max_bytes``, anywhere, but not within the first batch if ``at_least_one``; and cut
        before the first batch that reaches ``limit_offset`` (exclusive; the high watermark). Whoever gets
        the regions closes them.

        Raises ``KafkaError``: OFFSET_OUT_OF_RANGE below the log's start or behind its end,
        KAFKA_STORAGE_ERROR.
        """
        if self._unusable is not None or self.health.failure is not None:
            self.check_usable()
        end_offset = self.log_end_offset
        if not self.log_start_offset <= start_offset <= end_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {start_offset} is not within [{self.log_start_offset}, {end_offset}]",
            )
        if start_offset >= limit_offset or start_offset == end_offset:
            return LogRead([], start_offset, 0)
        try:
            return read_batches(
                self._segments,
                start_offset,
                max_bytes,
                limit_offset,
                end_offset,
                at_least_one=at_least_one,
            )
        except OSError as error:
            raise self.health.failed_operation(f"read of {self.directory} failed", error) from error
        except CorruptBatch as error:
            raise self.quarantine(str(error)) from error

    def offset_for_timestamp(self, timestamp_ms: int) -> TimestampAndOffset | None:
        """The first record at or after ``timestamp_ms``; None if there is none.

        Its offset may lie behind the high watermark: that is for the caller to compare. Decodes one
        batch. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        return self._search(
            lambda: find_timestamp(self._segments, timestamp_ms, self.log_start_offset)
        )

    def max_timestamp_offset(self) -> TimestampAndOffset | None:
        """The first record with the largest timestamp of all (KIP-734); None in an empty log.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        return self._search(lambda: find_max_timestamp(self._segments))

    def _search(self, search: Callable[[], TimestampAndOffset | None]) -> TimestampAndOffset | None:
        self.check_usable()
        if not self.is_on_disk:
            return None  # nothing was ever written, and there is no file to look into
        try:
            return search()
        except OSError as error:
            raise self.health.failed_operation(f"read of {self.directory} failed", error) from error
        except (CorruptBatch, UnsupportedMagic) as error:
            raise self.quarantine(str(error)) from error

    def end_offset_for_epoch(self, epoch: int) -> EpochEnd | None:
        """Where the largest epoch that is at most ``epoch`` ends (OffsetForLeaderEpoch)."""
        return self._epochs.end_offset_for(epoch, self.log_end_offset)


def _slice(run: memoryview, position: int, size_bytes: int) -> memoryview:
    return run[position : position + size_bytes]


def _too_large_for_segment(size_bytes: int, rules: LogRules) -> KafkaError:
    return KafkaError(
        ErrorCode.RECORD_LIST_TOO_LARGE,
        f"batch of {size_bytes} bytes, segment.bytes is {rules.segment_bytes}",
    )
