"""The time index: from when on to search for a timestamp. Kafka's ``.timeindex`` files.

An entry is 12 bytes: the largest timestamp in the segment so far (int64, ms) and the last offset of
the batch that has it, relative to the segment's base offset (int32). Timestamps ascend strictly: a
record with a greater timestamp lies behind the entry's offset. Source: ``TimeIndex``.
"""

from __future__ import annotations

from struct import Struct

from ottla.log.sparse_index import CorruptIndex, SparseIndex

ENTRY_BYTES = 12
NO_TIMESTAMP_MS = -1
_ENTRY = Struct(">qi")
_pack = _ENTRY.pack


class TimeIndex(SparseIndex):
    """Timestamps and offsets, both ascending."""

    __slots__ = ("_last_offset", "_last_timestamp_ms")

    ENTRY = _ENTRY
    KEY = Struct(">q")

    def is_full(self, size_bytes_max: int) -> bool:
        """Whether only the entry of the roll still has room."""
        return self.entries >= size_bytes_max // ENTRY_BYTES - 1

    def last(self) -> tuple[int, int]:
        """The newest entry (timestamp, offset); (-1, base offset) if there is none.

        Raises ``CorruptIndex``.
        """
        if not self.entries:
            return NO_TIMESTAMP_MS, self.base_offset
        if not self._loaded:
            timestamp_ms, relative = self.raw_entry(self.entries - 1)
            if relative < 0 or timestamp_ms < 0:
                raise CorruptIndex(f"{self.file.path}: {timestamp_ms}, {relative}")
            self._last_timestamp_ms = timestamp_ms
            self._last_offset = self.base_offset + relative
            self._loaded = True
        return self._last_timestamp_ms, self._last_offset

    def maybe_append(self, timestamp_ms: int, offset: int) -> None:
        """Note the largest timestamp so far, unless the last entry has it already."""
        newest_ms = self._last_timestamp_ms if self._loaded and self.entries else self.last()[0]
        if timestamp_ms > newest_ms:
            self._append_entry(_pack(timestamp_ms, offset - self.base_offset))
            self._last_timestamp_ms = timestamp_ms
            self._last_offset = offset
            self._loaded = True

    def lookup(self, timestamp_ms: int) -> tuple[int, int]:
        """The last entry (timestamp, offset) of at most ``timestamp_ms``: all before it is older.

        (-1, base offset) if there is none. Raises ``CorruptIndex``.
        """
        found = self._search(timestamp_ms)
        if found is None:
            return NO_TIMESTAMP_MS, self.base_offset
        if found[0] < 0 or found[1] < 0:
            raise CorruptIndex(f"{self.file.path}: {found[0]}, {found[1]}")
        return found[0], self.base_offset + found[1]

    def truncate_to(self, offset: int) -> None:
        """Drop the entries at or behind ``offset``."""
        low, high = 0, self.entries
        while low < high:
            middle = (low + high) // 2
            if self.raw_entry(middle)[1] + self.base_offset < offset:
                low = middle + 1
            else:
                high = middle
        self.cut_to(low)
