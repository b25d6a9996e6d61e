"""Cleaning a log here and now, for the tests of compaction."""

from __future__ import annotations

from ottla.log.cleaned_log import PendingSwap
from ottla.log.compaction.cleaning import Cleaning
from ottla.log.compaction.job import (
    CleanedGroup,
    CleaningDone,
    CleaningJob,
    CleaningLimits,
)
from ottla.log.compaction.plan import job_for
from ottla.log.disk import Disk
from ottla.log.log import Log
from tests.unit.log.samples import NOW_MS, all_records

LIMITS = CleaningLimits(
    dedupe_bytes=1 << 20, load_factor=0.9, io_bytes=1 << 16, bytes_per_second=1e9
)


def job_of(
    log: Log, now_ms: int = NOW_MS, *, limits: CleaningLimits = LIMITS, token: str = "t"
) -> CleaningJob:
    """A job for all of the log but its active segment."""
    return job_for(
        log,
        first_dirty_offset=max(log.clean_end_offset, log.log_start_offset),
        end_offset=log.segments.active.base_offset,
        token=token,
        limits=limits,
        now_ms=now_ms,
    )


def swap_in(disk: Disk, log: Log, group: CleanedGroup, now_ms: int = NOW_MS) -> bool:
    """All steps of a swap, with the syncs between them."""
    swap: PendingSwap | None = log.prepare_swap(group, now_ms)
    if swap is None:
        return False
    disk.sync_directory(log.directory)
    if not log.exchange_segments(swap, now_ms):
        return False
    disk.sync_directory(log.directory)
    log.finish_swap(swap)
    return True


def clean(
    disk: Disk, log: Log, now_ms: int = NOW_MS, *, limits: CleaningLimits = LIMITS
) -> CleaningDone:
    """Clean all of the log but its active segment, as a broker and its worker would."""
    for step in Cleaning(job_of(log, now_ms, limits=limits), disk, lambda size: None).run():
        if isinstance(step, CleaningDone):
            log.mark_clean(step.clean_end_offset)
            return step
        if step.changed:
            assert swap_in(disk, log, step, now_ms)
    raise AssertionError("a cleaning ends with CleaningDone")


def latest(log: Log) -> dict[bytes | None, bytes | None]:
    """The newest value of each key, tombstones left out."""
    found = {record.key: record.value for record in all_records(log)}
    return {key: value for key, value in found.items() if value is not None}
