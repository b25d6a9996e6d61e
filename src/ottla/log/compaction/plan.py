"""Which log to clean, how far, and what its cleaner has to know.

The rules kept here (``LogCleanerManager``, ``LogToClean``):

- Never cleaned: the active segment, what is not below the limit (high watermark, last stable offset, what is
  durable), and what is younger than ``min.compaction.lag.ms``.
- The dirtiest log comes first: the part of its bytes that is dirty has to exceed
  ``min.cleanable.dirty.ratio``, or its oldest dirty record be older than ``max.compaction.lag.ms``.
- A log that ends before its clean part does was cut by somebody else: all of it is dirty.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.log.cleaned_log import CleanedLog
from ottla.log.compaction.job import CleaningJob, CleaningLimits, SourceSegment
from ottla.log.segment import Segment
from ottla.settings.definitions import to_text

_SETTINGS = (
    "cleanup.policy",
    "segment.bytes",
    "segment.index.bytes",
    "index.interval.bytes",
    "delete.retention.ms",
)


class Dirtiness(NamedTuple):
    """How much of a log waits to be cleaned. Sizes in bytes.

    Dirty is what lies from ``first_dirty_offset`` to ``end_offset``, which is a segment's base offset.
    ``overdue_ms``: for how long the oldest dirty record has been beyond ``max.compaction.lag.ms``; 0 if none is.
    """

    first_dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    overdue_ms: int

    @property
    def ratio(self) -> float:
        """The dirty part of what is clean or may be cleaned; 0 to 1."""
        total = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total if total else 0.0

    def is_due(self, min_ratio: float) -> bool:
        """Whether the log should be cleaned now."""
        return self.dirty_bytes > 0 and (self.overdue_ms > 0 or self.ratio > min_ratio)


def dirtiness_of(log: CleanedLog, limit_offset: int, now_ms: int) -> Dirtiness:
    """What there is to clean in a log; nothing at or behind ``limit_offset`` is.

    Reads at most an index entry and a header a segment, once. Raises ``OSError``.
    """
    if log.clean_end_offset > log.log_end_offset:
        log.clean_end_offset = 0
    first_dirty = max(log.clean_end_offset, log.log_start_offset)
    every = list(log.segments)
    ends = [segment.base_offset for segment in every[1:]]
    inactive = list(zip(every, ends, strict=False))
    lag_ms = log.config.min_compaction_lag_ms
    clean = dirty = 0
    end_offset = every[0].base_offset
    dirty_segments = []
    for segment, end in inactive:
        is_dirty = end > first_dirty
        is_young = lag_ms > 0 and is_dirty and segment.largest_timestamp_ms() > now_ms - lag_ms
        if end > limit_offset or is_young:
            break
        end_offset = end
        if segment.base_offset < first_dirty:
            clean += segment.size_bytes
        if is_dirty:
            dirty += segment.size_bytes
            dirty_segments.append(segment)
    overdue = _overdue_ms(dirty_segments, log.config.max_compaction_lag_ms, now_ms)
    return Dirtiness(first_dirty, max(end_offset, first_dirty), clean, dirty, overdue)


def _overdue_ms(dirty: list[Segment], lag_ms: int, now_ms: int) -> int:
    oldest_allowed = now_ms - lag_ms
    if oldest_allowed < 0:
        return 0
    firsts = [first for segment in dirty if (first := segment.first_timestamp_ms()) > 0]
    return max(oldest_allowed - min(firsts), 0) if firsts else 0


def job_for(
    log: CleanedLog,
    *,
    first_dirty_offset: int,
    end_offset: int,
    token: str,
    limits: CleaningLimits,
    now_ms: int,
) -> CleaningJob:
    """The job of cleaning ``log`` up to ``end_offset``, a segment's base offset."""
    segments = log.segments
    config = log.config
    return CleaningJob(
        directory=log.directory,
        token=token,
        segments=[
            SourceSegment(
                segment.base_offset,
                segment.size_bytes,
                segments.end_of(segment, log.log_end_offset),
                segment.offset_index.size_bytes,
                segment.time_index.size_bytes,
            )
            for segment in segments
            if segment.base_offset < end_offset
        ],
        first_dirty_offset=first_dirty_offset,
        end_offset=end_offset,
        settings={name: to_text(config.value(name)) for name in _SETTINGS},
        producers={
            producer_id: (entry.last_offset, entry.epoch)
            for producer_id, entry in log.producers.producers.items()
        },
        limits=limits,
        now_ms=now_ms,
    )
