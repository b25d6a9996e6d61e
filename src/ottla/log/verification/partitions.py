"""One partition's directory: all of its segments in order, and the small files beside them.

Rules: segments are followed from one to the next (offsets, epochs, producers); a producer snapshot says
what the batches before it say; the leader epochs' checkpoint names each epoch where its first batch lies;
``partition.metadata`` names the topic that the cluster knows. Files that a running broker removes meanwhile
are no damage.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from ottla.log import names
from ottla.log.checkpoints import (
    CorruptCheckpoint,
    decode_epochs,
    decode_partition_metadata,
)
from ottla.log.disk import Disk
from ottla.log.leader_epochs import LeaderEpochs
from ottla.log.producer_snapshot import CorruptSnapshot, decode_snapshot
from ottla.log.salvage import read_lost
from ottla.log.verification.findings import DAMAGE, FAULT, NOTE, Finding
from ottla.log.verification.segments import LogWalk, Rules, SegmentCheck, Standing
from ottla.topic_ids import ZERO_ID, to_text

_SMALL_FILE_BYTES_MAX = 1 << 30
_LEFTOVERS = (names.DELETED_SUFFIX, names.CLEANED_SUFFIX, names.SWAP_SUFFIX, ".tmp")


class Expected(NamedTuple):
    """What a log directory and the cluster's store know of a partition; None where they do not."""

    rules: Rules
    log_start_offset: int | None = None
    recovery_point: int | None = None
    high_watermark: int | None = None
    topic_id: bytes | None = None


class PartitionReport(NamedTuple):
    """What was found in one partition's directory."""

    directory: str
    segments: int
    batches: int
    size_bytes: int
    first_offset: int | None
    next_offset: int | None
    quarantined: str | None
    findings: tuple[Finding, ...]
    damage: int
    faults: int
    notes: int
    quarantining: Finding | None

    @property
    def sound(self) -> bool:
        """Whether there is neither damage nor a fault."""
        return not self.damage and not self.faults


class PartitionCheck:
    """The check of one directory, or of one segment in it."""

    def __init__(
        self,
        directory: str,
        expected: Expected,
        *,
        disk: Disk | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """Nothing is read before ``run``."""
        self._disk = disk if disk is not None else Disk()
        self._directory = directory
        self._expected = expected
        self._log = LogWalk(expected.rules, on_bytes)
        self._running = expected.rules.standing is Standing.RUNNING
        self._files: set[str] = set()

    def run(self, only: int | None = None) -> PartitionReport:
        """Check every segment and small file, or ``only`` the segment of that base offset.

        Raises ``OSError``: the directory can't be read.
        """
        self._files = {
            entry.name for entry in self._disk.entries(self._directory) if not entry.is_directory
        }
        self._log.salvaged = frozenset(read_lost(self._disk, self._directory))
        bases = sorted(
            offset
            for name in self._files
            if name.endswith(names.LOG_SUFFIX) and (offset := names.offset_of(name)) is not None
        )
        for number, base in enumerate(bases):
            if only is not None and base != only:
                continue
            if only is None:
                self._check_snapshot(base)
            following = bases[number + 1] if number + 1 < len(bases) else None
            self._check_segment(base, following)
        if only is None:
            self._check_the_rest(bases)
        return self._report()

    def _check_segment(self, base: int, following: int | None) -> None:
        check = SegmentCheck(self._disk, self._directory, base, self._log, following)
        try:
            check.run()
        except FileNotFoundError as error:
            if not self._running:
                raise
            message = "the broker has removed it meanwhile"
            self._find(NOTE, "removed", str(error.filename), message)
            self._log.next_offset = following

    def _find(self, severity: str, kind: str, path: str, message: str) -> None:
        self._log.findings.add(Finding(severity, kind, path, message))

    def _read(self, name: str) -> bytes | None:
        """A small file; None if there is none. Raises ``ValueError`` if it is absurdly large."""
        try:
            return self._disk.read_file(f"{self._directory}/{name}", _SMALL_FILE_BYTES_MAX)
        except FileNotFoundError:
            return None

    # The small files

    def _check_the_rest(self, bases: list[int]) -> None:
        end = self._log.next_offset
        others = sorted(
            offset
            for name in self._files
            if name.endswith(names.SNAPSHOT_SUFFIX)
            and (offset := names.offset_of(name)) is not None
            and offset not in bases
        )
        for offset in others:
            self._check_snapshot(offset, comparable=offset == end)
        self._check_epochs()
        self._check_metadata()
        self._check_checkpoints(bool(bases))
        self._check_leftovers(bases)

    def _check_snapshot(self, offset: int, *, comparable: bool = True) -> None:
        name = names.file_name(offset, names.SNAPSHOT_SUFFIX)
        if name not in self._files:
            return
        path = f"{self._directory}/{name}"
        try:
            content = self._read(name)
            producers = {} if content is None else decode_snapshot(content)
        except (CorruptSnapshot, ValueError) as error:
            self._find(FAULT, "snapshot", path, f"{error}; the next start makes it anew")
            return
        known = self._log.producers.producers
        for producer_id, entry in producers.items():
            seen = known.get(producer_id)
            if entry.last_offset >= offset:
                problem = f"offset {entry.last_offset}, which is behind it"
            elif not comparable or seen is None or self._expected.rules.dense is False:
                continue
            elif (entry.epoch, entry.last_offset) < (seen.epoch, seen.last_offset):
                problem = f"offset {entry.last_offset}; it wrote {seen.last_offset} before it"
            else:
                continue
            message = f"it says that producer {producer_id} ended at {problem}"
            self._find(FAULT, "snapshot", path, message)
            return

    def _check_epochs(self) -> None:
        path = f"{self._directory}/{names.LEADER_EPOCH_CHECKPOINT}"
        starts = self._log.epoch_starts
        settled = not (self._running or self._expected.rules.standing is Standing.UNCLEAN)
        try:
            content = self._read(names.LEADER_EPOCH_CHECKPOINT)
            entries = decode_epochs(content) if content is not None else []
        except (CorruptCheckpoint, ValueError) as error:
            self._find(FAULT, "epochs", path, f"{error}; the next start makes it anew")
            return
        for before, after in pairwise(entries):
            if after.epoch <= before.epoch or after.start_offset < before.start_offset:
                message = f"epoch {after.epoch} at {after.start_offset} after {tuple(before)}"
                self._find(FAULT, "epochs", path, message)
                return
        epochs = LeaderEpochs(entries)
        point = self._expected.rules.recovery_point
        for epoch, offset in starts[1:]:
            if epochs.epoch_for(offset) != epoch and (settled or offset < point):
                message = f"epoch {epoch} begins at offset {offset}; the checkpoint says otherwise"
                self._find(FAULT, "epochs", path, message)
                return

    def _check_metadata(self) -> None:
        path = f"{self._directory}/{names.PARTITION_METADATA}"
        wanted = self._expected.topic_id
        try:
            content = self._read(names.PARTITION_METADATA)
            topic_id = decode_partition_metadata(content) if content is not None else None
        except (CorruptCheckpoint, ValueError) as error:
            self._find(FAULT, "metadata", path, f"it can't be read: {error}")
            return
        if topic_id is None:
            self._find(NOTE, "metadata", path, "it is missing: the topic's id is not written down")
        elif wanted is not None and topic_id not in (wanted, ZERO_ID):
            message = (
                f"topic id {to_text(topic_id)}, but the cluster's topic of this name has "
                f"{to_text(wanted)}: the broker sets this log aside"
            )
            self._find(FAULT, "metadata", path, message)

    def _check_checkpoints(self, has_log: bool) -> None:
        """What the log directory's checkpoints say against what is there."""
        expected, end = self._expected, self._log.next_offset
        if end is None or not has_log or self._log.findings.quarantining is not None:
            return
        point, start = expected.recovery_point, expected.log_start_offset
        if point is not None and end < point:
            message = f"the log ends at offset {end}; everything below {point} was on the disk once"
            self._find(DAMAGE, "end", self._directory, message)
        if start is not None and start > end:
            message = f"the log ends at offset {end}, before its checkpointed start {start}"
            self._find(FAULT, "start", self._directory, message)
        mark = expected.high_watermark
        if mark is not None and mark > end and (point is None or end >= point):
            message = f"the checkpointed high watermark {mark} lies behind the log's end {end}"
            self._find(NOTE, "high-watermark", self._directory, message)

    def _check_leftovers(self, bases: list[int]) -> None:
        for name in sorted(self._files):
            path, offset = f"{self._directory}/{name}", names.offset_of(name)
            if name.endswith(_LEFTOVERS):
                if not self._running:
                    self._find(NOTE, "leftover", path, "the next start finishes with it")
            elif (
                offset is not None and name.endswith(names.SEGMENT_SUFFIXES) and offset not in bases
            ):
                self._find(NOTE, "leftover", path, "there is no segment to it")

    def _report(self) -> PartitionReport:
        log, findings = self._log, self._log.findings
        reason = self._read(names.QUARANTINE) if names.QUARANTINE in self._files else None
        return PartitionReport(
            self._directory,
            log.segments,
            log.batches,
            log.size_bytes,
            log.first_offset,
            log.next_offset,
            reason.decode(errors="replace").strip() if reason is not None else None,
            tuple(findings.kept),
            findings.counts[DAMAGE],
            findings.counts[FAULT],
            findings.counts[NOTE],
            findings.quarantining,
        )
