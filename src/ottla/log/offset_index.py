"""The offset index: where in the segment the batch with an offset lies. Kafka's ``.index`` files.

An entry is 8 bytes: the last offset of a batch relative to the segment's base offset (int32) and the
position at which that batch starts (int32). Source: ``OffsetIndex``.
"""

from __future__ import annotations

from struct import Struct

from ottla.log.sparse_index import RELATIVE_OFFSET_MAX, CorruptIndex, SparseIndex

ENTRY_BYTES = 8
_ENTRY = Struct(">ii")
_pack = _ENTRY.pack


class OffsetIndex(SparseIndex):
    """Offsets and positions, both ascending."""

    __slots__ = ("_last_offset", "_last_position")

    ENTRY = _ENTRY
    KEY = Struct(">i")

    def is_full(self, size_bytes_max: int) -> bool:
        """Whether ``segment.index.bytes`` leaves no room for another entry."""
        return self.entries >= size_bytes_max // ENTRY_BYTES

    def can_hold(self, offset: int) -> bool:
        """Whether the offset can be told in 31 bits from the segment's base offset."""
        return 0 <= offset - self.base_offset <= RELATIVE_OFFSET_MAX

    def append(self, last_offset: int, position: int) -> None:
        """Note that the batch which ends with ``last_offset`` starts at ``position``."""
        self._append_entry(_pack(last_offset - self.base_offset, position))
        self._last_offset = last_offset
        self._last_position = position
        self._loaded = True

    def last(self) -> tuple[int, int]:
        """The newest entry (last offset, position); the base offset and 0 if there is none.

        Raises ``CorruptIndex``.
        """
        if not self.entries:
            return self.base_offset, 0
        if not self._loaded:
            relative, position = self.raw_entry(self.entries - 1)
            if relative < 0 or position < 0:
                raise CorruptIndex(f"{self.file.path}: {relative}, {position}")
            self._last_offset = self.base_offset + relative
            self._last_position = position
            self._loaded = True
        return self._last_offset, self._last_position

    def lookup(self, offset: int) -> int:
        """A position from which scanning forward meets the batch with ``offset``.

        The position of the entry with the greatest last offset that is at most ``offset``, or 0.
        Raises ``CorruptIndex``.
        """
        last_offset, last_position = self.last()
        if offset >= last_offset:
            return last_position
        found = self._search(offset - self.base_offset)
        if found is None:
            return 0
        if not 0 <= found[1] <= last_position:
            raise CorruptIndex(f"{self.file.path}: position {found[1]}")
        return found[1]

    def truncate_to(self, offset: int) -> None:
        """Drop the entries of batches that end at or behind ``offset``."""
        low, high = 0, self.entries
        while low < high:
            middle = (low + high) // 2
            if self.raw_entry(middle)[0] + self.base_offset < offset:
                low = middle + 1
            else:
                high = middle
        self.cut_to(low)
