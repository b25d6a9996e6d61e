"""Reading a log by offset: which bytes of which segments answer a fetch."""

from __future__ import annotations

from typing import NamedTuple

from ottla.log.regions import SegmentRegion
from ottla.log.segment import Segment
from ottla.log.segments import Segments


class LogRead(NamedTuple):
    """What a read found: regions for whoever sends them (and closes them), in order of offset.

    ``first_offset`` is the first batch's base offset, which may lie before the wanted offset;
    the wanted offset itself where there is nothing.
    """

    regions: list[SegmentRegion]
    first_offset: int
    size_bytes: int


def read_batches(
    segments: Segments,
    start_offset: int,
    max_bytes: int,
    limit_offset: int,
    log_end_offset: int,
    *,
    at_least_one: bool,
) -> LogRead:
    """The bytes from the batch with ``start_offset`` on; see ``Log.read`` for where they are cut.

    Raises ``CorruptBatch`` and ``OSError``.
    """
    segment = segments.floor(start_offset)
    place = None
    while segment is not None:
        place = segment.find(start_offset)
        if place is not None:
            break
        segment = segments.after(segment)  # all behind start_offset was compacted away here
    if segment is None or place is None or place.last_offset >= limit_offset:
        return LogRead([], start_offset, 0)
    wanted = max(max_bytes, place.size_bytes) if at_least_one else max_bytes
    position, total = place.position, 0
    regions: list[SegmentRegion] = []
    while total < wanted:
        end = _limit_position(segments, segment, limit_offset, log_end_offset)
        size = min(end - position, wanted - total)
        if size > 0:
            regions.append(segment.region(position, size))
            total += size
        following = segments.after(segment) if end == segment.size_bytes else None
        if following is None:
            break
        segment, position = following, 0
    return LogRead(regions, place.base_offset, total)


def _limit_position(
    segments: Segments, segment: Segment, limit_offset: int, log_end_offset: int
) -> int:
    """Where in ``segment`` the first batch starts that reaches ``limit_offset``; else its end."""
    if limit_offset >= segments.end_of(segment, log_end_offset):
        return segment.size_bytes
    place = segment.find(limit_offset)
    return segment.size_bytes if place is None else place.position
