"""Holding a segment's indexes against its batches, while these go by.

Rules (``OffsetIndex``, ``TimeIndex``): entries ascend; an offset entry names the position of a batch and the
last offset of that batch, or of a later one where a follower appended several at once; a time entry names
the largest timestamp so far and an offset of the batch that has it. Zeros behind the entries are Kafka's
preallocated map.
"""

from __future__ import annotations

from collections.abc import Iterator

from ottla.log.offset_index import OffsetIndex
from ottla.log.sparse_index import SparseIndex
from ottla.log.time_index import TimeIndex
from ottla.records.batch import BatchHeader


class IndexCheck:
    """One index of one segment. ``problem`` is the first thing that is wrong with it."""

    KIND: type[SparseIndex]

    def __init__(self, content: bytes, base_offset: int) -> None:
        self.problem: str | None = None
        self.entries = 0
        self._base_offset = base_offset
        self._content = _without_padding(content, self.KIND.ENTRY.size)
        if len(content) % self.KIND.ENTRY.size:
            self._wrong(f"its {len(content)} bytes are no multiple of {self.KIND.ENTRY.size}")
        self._entries = self._iterate()
        self._next = next(self._entries, None)

    def _iterate(self) -> Iterator[tuple[int, int]]:
        whole = len(self._content) - len(self._content) % self.KIND.ENTRY.size
        for entry in self.KIND.ENTRY.iter_unpack(memoryview(self._content)[:whole]):
            yield entry[0], entry[1]

    def _wrong(self, problem: str) -> None:
        if self.problem is None:
            self.problem = problem

    def _advance(self) -> None:
        before = self._next
        self.entries += 1
        self._next = next(self._entries, None)
        if before is not None and self._next is not None and self._next[0] < before[0]:
            self._wrong(f"entry {self.entries} does not ascend")

    def see(self, position: int, header: BatchHeader) -> None:
        """The segment's next batch lies at ``position``."""
        raise AssertionError("each index has its own")

    def finish(self) -> None:
        """There are no more batches."""
        if self._next is not None:
            self._wrong(f"entry {self.entries} points behind the last batch")


class OffsetIndexCheck(IndexCheck):
    """The ``.index`` of a segment."""

    KIND = OffsetIndex
    _awaited: int | None = None

    def see(self, position: int, header: BatchHeader) -> None:
        """Check the entries that point at this batch."""
        relative = header.last_offset - self._base_offset
        if self._awaited is not None and relative >= self._awaited:
            if relative != self._awaited:
                self._wrong(f"no batch ends at offset {self._base_offset + self._awaited}")
            self._awaited = None
        while self._next is not None and self._next[1] <= position:
            offset, place = self._next
            if place != position:
                self._wrong(f"entry {self.entries} points to byte {place}, where no batch begins")
            elif offset < relative:
                self._wrong(
                    f"entry {self.entries} says that the batch at byte {place} ends at offset "
                    f"{self._base_offset + offset}; it ends at {header.last_offset}"
                )
            elif offset > relative:
                self._awaited = offset
            self._advance()

    def finish(self) -> None:
        """There are no more batches."""
        super().finish()
        if self._awaited is not None:
            self._wrong(f"no batch ends at offset {self._base_offset + self._awaited}")


class TimeIndexCheck(IndexCheck):
    """The ``.timeindex`` of a segment."""

    KIND = TimeIndex
    _largest_ms = -1

    def see(self, position: int, header: BatchHeader) -> None:
        """Check the entries that name an offset of this batch."""
        self._largest_ms = max(self._largest_ms, header.max_timestamp_ms)
        while self._next is not None and self._base_offset + self._next[1] <= header.last_offset:
            timestamp_ms, relative = self._next
            offset = self._base_offset + relative
            if relative < 0:
                self._wrong(f"entry {self.entries} names the relative offset {relative}")
            elif timestamp_ms != self._largest_ms:
                self._wrong(
                    f"entry {self.entries} says that the largest timestamp up to offset {offset} is "
                    f"{timestamp_ms}; it is {self._largest_ms}"
                )
            self._advance()


def _without_padding(content: bytes, entry_bytes: int) -> bytes:
    """The entries without the zeros of a preallocated map."""
    if len(content) <= entry_bytes:
        return content
    kept = len(content.rstrip(b"\0"))
    return content[: kept + -kept % entry_bytes]
