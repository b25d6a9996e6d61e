"""One segment against the rules: its batches, and its indexes against them.

Rules (INVARIANTS 8, 9, 21-24): checksums hold; offsets ascend, within the segment's bounds, and are dense
where the topic was never compacted; leader epochs do not decrease; an idempotent producer's sequences
continue. What lies behind the recovery point after an unclean stop, or at the end of the active segment of
a running broker, is not settled yet: that is told of as a note.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ottla.errors import KafkaError
from ottla.log import names
from ottla.log.disk import Disk
from ottla.log.producer_state import ProducerState
from ottla.log.room import is_room
from ottla.log.verification.findings import DAMAGE, FAULT, NOTE, Finding, Findings
from ottla.log.verification.indexes import IndexCheck, OffsetIndexCheck, TimeIndexCheck
from ottla.log.verification.walk import Broken, WalkedBatch, checksum, identity, walk
from ottla.records.batch import HEADER_BYTES, BatchHeader, read_header

PRODUCERS_MAX = 100_000
"""Producers whose sequences are followed at a time; beyond it the check starts anew for all."""
PRODUCER_EXPIRATION_MS = 86_400_000
DEEP_BATCH_BYTES_MAX = 256 << 20
DEEP_DECOMPRESSED_BYTES_MAX = 256 << 20

_INDEX_BYTES_MAX = 1 << 28
_SETTLES_WITHIN_S = 1.0
_SETTLE_PAUSE_S = 0.05


class Standing(Enum):
    """How the broker left the directory: what is known of the end of its logs."""

    RUNNING = "running"
    CLEAN = "clean"
    UNCLEAN = "unclean"


class Rules(NamedTuple):
    """What is known of the partition from elsewhere.

    ``recovery_point``: below it all was synced once. ``dense``: whether the offsets have no gaps, None
    where nobody knows. ``deep``: look at the records inside the batches, too.
    """

    standing: Standing
    recovery_point: int = 0
    dense: bool | None = None
    deep: bool = False


class LogWalk:
    """What goes on from segment to segment of one log, and what was counted."""

    def __init__(self, rules: Rules, on_bytes: Callable[[int], None] | None = None) -> None:
        self.rules = rules
        self.findings = Findings()
        self.on_bytes = on_bytes
        self.producers = ProducerState()
        self.first_offset: int | None = None
        self.next_offset: int | None = None
        self.latest_epoch = -1
        self.epoch_starts: list[tuple[int, int]] = []
        self.torn_at: int | None = None
        self.salvaged: frozenset[tuple[int, int]] = frozenset()
        self.segments = 0
        self.batches = 0
        self.size_bytes = 0


class SegmentCheck:
    """The check of one segment; ``last`` is the log's active one."""

    def __init__(
        self, disk: Disk, directory: str, base_offset: int, log: LogWalk, limit_offset: int | None
    ) -> None:
        """``limit_offset``: where the next segment begins, None for the last one."""
        self._disk = disk
        self._directory = directory
        self._base_offset = base_offset
        self._log = log
        self._limit_offset = limit_offset
        self._path = self._beside(names.LOG_SUFFIX)
        self._after_doubt = False

    @property
    def is_last(self) -> bool:
        """Whether it is the active segment."""
        return self._limit_offset is None

    def run(self) -> None:
        """Check it and note what is found. Raises ``OSError``, ``FileNotFoundError`` where it is gone."""
        descriptor = self._disk.open(self._path, os.O_RDONLY)
        try:
            size = self._disk.size_of(descriptor)
            checks = self._open_indexes(size)
            self._log.segments += 1
            self._log.size_bytes += size
            self._walk(descriptor, size, [check for _, check in checks])
            self._finish_indexes(descriptor, size, checks)
        finally:
            self._disk.close(descriptor)

    def _beside(self, suffix: str) -> str:
        return f"{self._directory}/{names.file_name(self._base_offset, suffix)}"

    def _find(
        self,
        severity: str,
        kind: str,
        message: str,
        position: int | None = None,
        offsets: tuple[int | None, int | None] = (None, None),
        *,
        quarantines: bool = False,
        path: str | None = None,
    ) -> None:
        self._log.findings.add(
            Finding(
                severity,
                kind,
                path if path is not None else self._path,
                message,
                position,
                *offsets,
                quarantines=quarantines,
            )
        )

    # Batches

    def _walk(self, descriptor: int, size: int, checks: list[IndexCheck]) -> None:
        log = self._log
        if log.next_offset is None or self._base_offset > log.next_offset:
            if log.next_offset is not None:
                self._gap(log.next_offset, self._base_offset, None)
            log.next_offset = self._base_offset
        if log.first_offset is None:
            log.first_offset = self._base_offset
        for found in walk(self._disk, descriptor, size, log.on_bytes):
            if isinstance(found, Broken):
                if not self._is_room(descriptor, found, size):
                    self._broken(found, size)
                return
            log.batches += 1
            self._see(descriptor, found, checks)

    def _see(self, descriptor: int, found: WalkedBatch, checks: list[IndexCheck]) -> None:
        header, log = found.header, self._log
        problem = self._order_problem(header)
        whole = found.intact or self._settles(descriptor, found)
        if problem is None:
            for check in checks:
                check.see(found.position, header)
        if not whole:
            self._bad_checksum(found)
            self._forget_producers()
        elif problem is not None:
            self._out_of_order(found, problem)
        else:
            self._whole(descriptor, found)
        self._after_doubt = problem is not None  # where the log goes on is not known
        if problem is None:
            log.next_offset = header.next_offset

    def _order_problem(self, header: BatchHeader) -> str | None:
        """Why the batch can't be the next one; None if it can."""
        next_offset = self._log.next_offset
        assert next_offset is not None
        if header.last_offset_delta < 0 or header.base_offset < next_offset:
            return f"offset {header.base_offset} does not follow {next_offset - 1}"
        if self._limit_offset is not None and header.last_offset >= self._limit_offset:
            return f"offset {header.last_offset} lies in the next segment already"
        return None

    def _out_of_order(self, found: WalkedBatch, problem: str) -> None:
        assert self._log.next_offset is not None
        if self._is_unsettled(self._log.next_offset):
            self._tail(found.position, problem)
            return
        offsets = (found.header.base_offset, None)
        self._find(DAMAGE, "order", problem, found.position, offsets, quarantines=True)

    def _whole(self, descriptor: int, found: WalkedBatch) -> None:
        header, log = found.header, self._log
        assert log.next_offset is not None
        if header.base_offset > log.next_offset and not self._after_doubt:
            self._gap(log.next_offset, header.base_offset, found.position)
        if log.torn_at is not None:
            message = (
                f"whole batches follow the torn one at offset {log.torn_at}; the next start cuts them "
                "off, too: make a copy first if they may have been acknowledged"
            )
            self._find(DAMAGE, "torn", message, found.position, (log.torn_at, None))
            log.torn_at = None
        epoch = header.leader_epoch
        if epoch > log.latest_epoch:
            log.latest_epoch = epoch
            log.epoch_starts.append((epoch, header.base_offset))
        elif 0 <= epoch < log.latest_epoch:
            message = f"leader epoch {epoch} comes after {log.latest_epoch}"
            offsets = (header.base_offset, header.last_offset)
            if self._is_unsettled(header.base_offset):
                self._tail(found.position, message)
            else:
                self._find(DAMAGE, "epoch", message, found.position, offsets)
        if header.producer_id >= 0:
            self._follow_producer(found)
        if log.rules.dense and header.record_count != header.last_offset_delta + 1:
            message = f"{header.record_count} records with {header.last_offset_delta + 1} offsets"
            self._find(DAMAGE, "count", message, found.position, (header.base_offset, None))
        if log.rules.deep:
            self._look_inside(descriptor, found)

    def _follow_producer(self, found: WalkedBatch) -> None:
        header, producers = found.header, self._log.producers
        if header.is_control:
            return
        entry = producers.producers.get(header.producer_id)
        silent = entry is not None and (
            header.max_timestamp_ms - entry.last_timestamp_ms >= PRODUCER_EXPIRATION_MS
        )
        if self._log.rules.dense and not silent and header.base_sequence >= 0:
            problem = _sequence_problem(producers, header)
            if problem is not None:
                offsets = (header.base_offset, header.last_offset)
                self._find(FAULT, "sequence", problem, found.position, offsets)
        if len(producers.producers) >= PRODUCERS_MAX:
            producers.clear(header.base_offset)
        producers.update(header, header.base_offset, header.max_timestamp_ms)

    def _forget_producers(self) -> None:
        """Batches are missing: any producer may have gone on meanwhile."""
        self._log.producers.clear(self._log.next_offset or 0)

    def _look_inside(self, descriptor: int, found: WalkedBatch) -> None:
        header, size = found.header, found.header.size_bytes
        offsets = (header.base_offset, header.last_offset)
        if size > DEEP_BATCH_BYTES_MAX:
            message = f"a batch of {size} bytes is too large to look inside"
            self._find(NOTE, "records", message, found.position, offsets)
            return
        problem = _records_problem(
            self._disk.read_fully(descriptor, size, found.position),
            header,
            bool(self._log.rules.dense),
        )
        if problem is not None:
            self._find(DAMAGE, "records", problem, found.position, offsets)

    # What does not hold

    def _gap(self, first_offset: int, end_offset: int, position: int | None) -> None:
        dense = self._log.rules.dense
        if dense is False:
            return
        self._forget_producers()
        message = f"offsets {first_offset} to {end_offset - 1} are missing"
        offsets = (first_offset, end_offset - 1)
        if offsets in self._log.salvaged:
            self._find(NOTE, "salvaged", f"{message} since a salvage", position, offsets)
            return
        if dense is None:
            message += ", as they may be in a topic that was compacted"
        self._find(DAMAGE if dense else NOTE, "gap", message, position, offsets)

    def _bad_checksum(self, found: WalkedBatch) -> None:
        header = found.header
        offsets = (header.base_offset, header.last_offset)
        if self._log.rules.standing is Standing.UNCLEAN and self._is_unsettled(header.base_offset):
            self._tail(found.position, "wrong checksum")
            return
        message = f"wrong checksum in the batch of offsets {offsets[0]} to {offsets[1]}"
        self._find(DAMAGE, "checksum", message, found.position, offsets, quarantines=True)

    def _is_room(self, descriptor: int, broken: Broken, size: int) -> bool:
        """Whether there was only room for batches to come, of a broker that runs, and may have gone on, or was killed."""
        offset = self._log.next_offset
        assert offset is not None
        if not (self.is_last and self._is_unsettled(offset)):
            return False
        if is_room(self._disk, descriptor, broken.position, size):
            return True
        if self._log.rules.standing is not Standing.RUNNING:
            return False
        try:
            read_header(self._disk.read_fully(descriptor, HEADER_BYTES, broken.position))
        except KafkaError:
            return False
        return True

    def _broken(self, broken: Broken, size: int) -> None:
        offset = self._log.next_offset
        assert offset is not None
        running = self._log.rules.standing is Standing.RUNNING
        if self._is_unsettled(offset) and (not running or broken.cut_short):
            self._tail(broken.position, broken.reason)
            return
        message = f"{broken.reason}; {size - broken.position} bytes are not readable"
        last = self._limit_offset - 1 if self._limit_offset is not None else None
        self._find(DAMAGE, "batch", message, broken.position, (offset, last), quarantines=True)

    def _tail(self, position: int, reason: str) -> None:
        if self._log.rules.standing is Standing.RUNNING:
            self._find(NOTE, "tail", f"being written: {reason}", position)
        else:
            message = f"a torn tail, which the next start cuts off: {reason}"
            self._find(NOTE, "tail", message, position, (self._log.next_offset, None))
            if self._log.torn_at is None:
                self._log.torn_at = self._log.next_offset

    def _is_unsettled(self, offset: int) -> bool:
        """Whether what lies at ``offset`` was perhaps never synced, or is being written."""
        rules = self._log.rules
        if rules.standing is Standing.CLEAN or offset < rules.recovery_point:
            return False
        return rules.standing is Standing.UNCLEAN or self.is_last

    def _settles(self, descriptor: int, found: WalkedBatch) -> bool:
        """Whether a batch at the end of a running broker's log was only being written."""
        unsettled = self._is_unsettled(found.header.base_offset)
        if self._log.rules.standing is not Standing.RUNNING or not unsettled:
            return False
        deadline = time.monotonic() + _SETTLES_WITHIN_S
        while time.monotonic() < deadline:
            time.sleep(_SETTLE_PAUSE_S)
            size = found.header.size_bytes
            if checksum(self._disk, descriptor, found.position, size) == found.header.crc:
                return True
        return False

    # Indexes

    def _open_indexes(self, size: int) -> list[tuple[str, IndexCheck]]:
        found: list[tuple[str, IndexCheck]] = []
        for suffix, kind in (
            (names.INDEX_SUFFIX, OffsetIndexCheck),
            (names.TIME_INDEX_SUFFIX, TimeIndexCheck),
        ):
            path = self._beside(suffix)
            try:
                content = self._disk.read_file(path, _INDEX_BYTES_MAX)
            except FileNotFoundError:
                if size and not self._is_rebuilt and not self.is_last:
                    message = "the index is missing; the next start makes it anew"
                    self._find(FAULT, "index", message, path=path)
                continue
            except ValueError as error:
                self._find(FAULT, "index", str(error), path=path)
                continue
            found.append((path, kind(content, self._base_offset)))
        return found

    @property
    def _is_rebuilt(self) -> bool:
        """Whether the next start makes the segment's indexes anew in any case."""
        rules, limit = self._log.rules, self._limit_offset
        return rules.standing is Standing.UNCLEAN and (
            limit is None or limit > rules.recovery_point
        )

    def _finish_indexes(
        self, descriptor: int, size: int, checks: list[tuple[str, IndexCheck]]
    ) -> None:
        running = self._log.rules.standing is Standing.RUNNING
        grown = running and self._disk.size_of(descriptor) != size
        for path, check in checks:
            if not grown:
                check.finish()
            if check.problem is None:
                continue
            if running and self._was_replaced(descriptor):
                continue
            if self._is_rebuilt:
                message = f"the next start makes the index anew: {check.problem}"
                self._find(NOTE, "index", message, path=path)
            else:
                self._find(FAULT, "index", check.problem, path=path)

    def _was_replaced(self, descriptor: int) -> bool:
        """Whether the broker has put another file in the segment's place, or cut it, meanwhile."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != identity(descriptor)


def _sequence_problem(producers: ProducerState, header: BatchHeader) -> str | None:
    """Why the sequences of ``header`` can't follow what its producer wrote before."""
    try:
        duplicate = producers.check(header)
    except KafkaError as error:
        return error.message or str(error)
    if duplicate is not None:
        return (
            f"sequences {header.base_sequence} to {header.last_sequence} of producer "
            f"{header.producer_id} are there twice, first at offset {duplicate.first_offset}"
        )
    return None


def _records_problem(batch: bytes, header: BatchHeader, dense: bool) -> str | None:
    """What is wrong with the records inside a batch."""
    from ottla.records.codec import decode_in_chunks

    last, number = header.base_offset - 1, 0
    try:
        for records, _ in decode_in_chunks(
            batch, header=header, max_decompressed_bytes=DEEP_DECOMPRESSED_BYTES_MAX
        ):
            for record in records:
                expected = header.base_offset + number
                if record.offset <= last or (dense and record.offset != expected):
                    return f"record {number} has offset {record.offset}, after {last}"
                last = record.offset
                number += 1
    except KafkaError as error:
        return f"its records can't be read: {error.message or error}"
    if last > header.last_offset:
        return f"its last record has offset {last}, the batch ends at {header.last_offset}"
    return None
