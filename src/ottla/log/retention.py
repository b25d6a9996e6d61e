"""Which segments have to go: by the log's start, by size, by age. Sans-IO.

The rules kept here (``UnifiedLog.deleteOldSegments``):

- Only from the oldest on, and only whole segments below the limit (the high watermark).
- A segment below the log start offset goes whatever the policy; the others only under ``delete``.
- An empty active segment stays. One with records may go like any other: it is rolled first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

UNLIMITED = -1


class SegmentFacts(NamedTuple):
    """What retention asks of a segment.

    ``end_offset`` is the next segment's base offset, the log's end for the active one.
    ``largest_timestamp_ms`` is asked for only by age, since it may cost a read.
    """

    end_offset: int
    size_bytes: int
    is_active: bool
    largest_timestamp_ms: Callable[[], int]


class RetentionLimits(NamedTuple):
    """The settings; -1 for no limit. ``by_policy`` is whether ``cleanup.policy`` has ``delete``."""

    by_policy: bool
    retention_bytes: int
    retention_ms: int


def deletable(
    segments: Sequence[SegmentFacts],
    limits: RetentionLimits,
    *,
    log_start_offset: int,
    limit_offset: int,
    now_ms: int,
) -> int:
    """How many of the oldest segments have to go."""
    count = _before_start(segments, log_start_offset, limit_offset)
    if not limits.by_policy:
        return count
    count = _over_size(segments, count, limits.retention_bytes, limit_offset)
    return _over_age(segments, count, limits.retention_ms, limit_offset, now_ms)


def _before_start(segments: Sequence[SegmentFacts], log_start: int, limit_offset: int) -> int:
    count = 0
    while count < len(segments):
        segment = segments[count]
        if segment.is_active or segment.end_offset > min(log_start, limit_offset):
            break
        count += 1
    return count


def _over_size(
    segments: Sequence[SegmentFacts], count: int, retention_bytes: int, limit_offset: int
) -> int:
    if retention_bytes < 0:
        return count
    excess = sum(segment.size_bytes for segment in segments[count:]) - retention_bytes
    while count < len(segments) and _may_go(segments[count], limit_offset):
        excess -= segments[count].size_bytes
        if excess < 0:
            break
        count += 1
    return count


def _over_age(
    segments: Sequence[SegmentFacts],
    count: int,
    retention_ms: int,
    limit_offset: int,
    now_ms: int,
) -> int:
    if retention_ms < 0:
        return count
    while count < len(segments) and _may_go(segments[count], limit_offset):
        if now_ms - segments[count].largest_timestamp_ms() <= retention_ms:
            break
        count += 1
    return count


def _may_go(segment: SegmentFacts, limit_offset: int) -> bool:
    empty_active = segment.is_active and segment.size_bytes == 0
    return segment.end_offset <= limit_offset and not empty_active
