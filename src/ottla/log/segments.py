"""The segments of a log, oldest first; the last one is active: it takes the appends."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from ottla.log.segment import Segment


class Segments:
    """Segments in order of their base offsets, found by offset."""

    __slots__ = ("_bases", "_segments", "active")

    def __init__(self, segments: list[Segment]) -> None:
        """``segments`` in ascending order, at least one."""
        self._segments = segments
        self._bases = [segment.base_offset for segment in segments]
        self.active = segments[-1]

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __getitem__(self, number: int) -> Segment:
        return self._segments[number]

    @property
    def first(self) -> Segment:
        """The oldest one."""
        return self._segments[0]

    @property
    def size_bytes(self) -> int:
        """The sum of their sizes."""
        return sum(segment.size_bytes for segment in self._segments)

    def floor(self, offset: int) -> Segment | None:
        """The last segment whose base offset is at most ``offset``; None before the first."""
        if offset >= self.active.base_offset:
            return self.active
        number = bisect_right(self._bases, offset)
        return self._segments[number - 1] if number else None

    def from_offset(self, offset: int) -> list[Segment]:
        """The segments that hold offsets from ``offset`` on, the one that contains it included."""
        return self._segments[max(bisect_right(self._bases, offset) - 1, 0) :]

    def after(self, segment: Segment) -> Segment | None:
        """The one that follows ``segment``."""
        if segment is self.active:
            return None
        number = bisect_right(self._bases, segment.base_offset)
        return self._segments[number] if number < len(self._segments) else None

    def end_of(self, segment: Segment, log_end_offset: int) -> int:
        """Where the offsets of ``segment`` end, exclusive."""
        following = self.after(segment)
        return log_end_offset if following is None else following.base_offset

    def add(self, segment: Segment) -> None:
        """Append a new active segment."""
        self._segments.append(segment)
        self._bases.append(segment.base_offset)
        self.active = segment

    def replace_all(self, segment: Segment) -> None:
        """Have ``segment`` only."""
        self._segments[:] = [segment]
        self._bases[:] = [segment.base_offset]
        self.active = segment

    def replace(self, old: list[Segment], new: Segment) -> None:
        """Put ``new`` in the place of ``old``: neighbours, the active one not among them."""
        number = self._segments.index(old[0])
        assert self._segments[number : number + len(old)] == old, "they are not neighbours"
        self._segments[number : number + len(old)] = [new]
        self._bases[number : number + len(old)] = [new.base_offset]

    def remove_first(self, count: int) -> list[Segment]:
        """Take the ``count`` oldest ones out; one must remain."""
        removed = self._segments[:count]
        del self._segments[:count], self._bases[:count]
        return removed

    def remove_behind(self, offset: int) -> list[Segment]:
        """Take out those with base offsets greater than ``offset``; one must remain."""
        number = max(bisect_right(self._bases, offset), 1)
        removed = self._segments[number:]
        del self._segments[number:], self._bases[number:]
        self.active = self._segments[-1]
        return removed
