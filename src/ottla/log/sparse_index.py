"""What the offset index and the time index share: sorted entries of one size in a file of their own.

The rules kept here:

- Entries are only appended. The newest stay in memory until there are enough for one write, or the
  segment is rolled or closed: after a crash the index of the active segment is rebuilt anyway.
- After ``write_out`` the file's bytes are what Kafka leaves when it trims its preallocated map.
- What lies in the file is not believed: a size that is no multiple, or a last entry that cannot be,
  raises ``CorruptIndex``, and the segment builds both indexes again from its batches.

An index has no locks and belongs to the log's thread. Source: ``AbstractIndex``.
"""

from __future__ import annotations

from struct import Struct
from typing import ClassVar

from ottla.log.files import File
from ottla.logs import logger

log = logger(__name__)

RELATIVE_OFFSET_MAX = 2**31 - 1
"""Offsets are stored relative to the segment's base, in 31 bits."""

_SPILL_BYTES = 2048
_PAGE_BYTES = 4096


class CorruptIndex(Exception):
    """The index file cannot be what was written; it is to be rebuilt."""


class SparseIndex:
    """Entries of ``ENTRY`` in ascending order of their first field.

    ``entries``, ``append_entry`` and ``search`` are the whole of it; the two indexes name the fields.
    """

    __slots__ = (
        "_found_in",
        "_loaded",
        "_stale",
        "_stored",
        "_tail",
        "base_offset",
        "entries",
        "file",
        "has_file",
    )

    ENTRY: ClassVar[Struct]
    KEY: ClassVar[Struct]

    def __init__(self, file: File, base_offset: int, size_bytes: int | None) -> None:
        """``size_bytes``: the file's size, None if there is none yet. Nothing is read or made here.

        Raises ``CorruptIndex`` if the size is no multiple of an entry's.
        """
        if size_bytes is not None and size_bytes % self.ENTRY.size:
            raise CorruptIndex(f"{file.path}: {size_bytes} bytes")
        self.file = file
        self.base_offset = base_offset
        self.has_file = size_bytes is not None
        """Whether its file was made."""
        self._stored = size_bytes // self.ENTRY.size if size_bytes is not None else 0
        self._stale = 0  # entries of an earlier life that the file may hold behind the stored ones
        self._tail: bytearray | None = None
        self._found_in = 0  # the page of the file in which the last search ended
        self._loaded = self._stored == 0
        self.entries = self._stored
        """How many entries there are."""

    @property
    def is_in_file(self) -> bool:
        """Whether the file holds anything, if only of an earlier life."""
        return bool(self._stored or self._stale)

    @property
    def size_bytes(self) -> int:
        """The size that the file has once all is written out."""
        return self.entries * self.ENTRY.size

    def write_out(self) -> bool:
        """Write what is only in memory, the file itself if there is none; whether there was any.

        Raises ``OSError``, and may then be called again.
        """
        if not self.has_file:
            self.file.create()
            self.has_file = True
        elif not self._tail and not self._stale:
            return False
        self._write_tail()
        if self._stale > self._stored:
            self.file.truncate(self._stored * self.ENTRY.size)
        self._stale = 0
        return True

    def _write_tail(self) -> None:
        """Into the file, unless these very bytes lie there already."""
        tail = bytes(self._tail or b"")
        position = self._stored * self.ENTRY.size
        if self._stale <= self._stored or self.file.read_at(len(tail), position) != tail:
            self.file.write_at(tail, position)
        self._stored += len(tail) // self.ENTRY.size
        self._tail = None

    def start_over(self) -> None:
        """Drop all entries, in memory only: what is written then goes over the file's old ones.

        The next ``write_out`` cuts off what is left of them. Emptying thousands of files first is what a
        start after a crash would take most of its time for.
        """
        self._stale = max(self._stale, self._stored)
        self._stored = self.entries = 0
        self._tail = None
        self._loaded = False

    def cut_to(self, entries: int) -> None:
        """Drop all but the first ``entries``, in the file too."""
        self.entries = min(self.entries, entries)
        if entries >= self._stored:
            if self._tail:
                del self._tail[(entries - self._stored) * self.ENTRY.size :]
        else:
            self._tail = None
            self.file.truncate(entries * self.ENTRY.size)
            self._stored = entries
            self._stale = 0
        self._loaded = False

    def raw_entry(self, number: int) -> tuple[int, int]:
        """The fields of entry ``number``, 0 being the oldest. Raises ``CorruptIndex``, ``OSError``."""
        if number >= self._stored:
            tail = self._tail
            assert tail is not None
            found: tuple[int, int] = self.ENTRY.unpack_from(
                tail, (number - self._stored) * self.ENTRY.size
            )
            return found
        size = self.ENTRY.size
        data = self.file.read_at(size, number * size)
        if len(data) < size:
            raise CorruptIndex(f"{self.file.path} has lost entries")
        key, value = self.ENTRY.unpack(data)
        return key, value

    def all_entries(self) -> list[tuple[int, int]]:
        """Every entry's fields, oldest first."""
        data = self.file.read_at(self._stored * self.ENTRY.size, 0) if self._stored else b""
        return list(self.ENTRY.iter_unpack(data + bytes(self._tail or b"")))

    def _append_entry(self, entry: bytes) -> None:
        tail = self._tail
        if tail is None:
            tail = self._tail = bytearray()
        tail += entry
        self.entries += 1
        size = len(tail)
        if size >= _SPILL_BYTES and size % _SPILL_BYTES < len(entry):
            self._spill()

    def _spill(self) -> None:
        """Write out, or keep everything in memory for the next time: the batch itself is written."""
        try:
            if self._stale:
                self._write_tail()
            else:
                self.write_out()
        except OSError as error:
            log.warning("index entries stay in memory", path=self.file.path, reason=str(error))

    def _search(self, key: int) -> tuple[int, int] | None:
        """The last entry whose first field is at most ``key``; None if there is none."""
        tail = self._tail
        if tail:
            slot = self._slot(tail, key, len(tail) // self.ENTRY.size)
            if slot >= 0:
                found: tuple[int, int] = self.ENTRY.unpack_from(tail, slot * self.ENTRY.size)
                return found
        return self._search_file(key) if self._stored else None

    def _search_file(self, key: int) -> tuple[int, int] | None:
        """As ``_search`` in the file: in the page where the last search ended, else halving down to one.

        Who reads on asks for what lies in the same page, or in the next one."""
        size = self.ENTRY.size
        last = (self._stored - 1) // (_PAGE_BYTES // size)
        number = min(self._found_in, last)
        page = self._page(number)
        if self.KEY.unpack_from(page)[0] > key:
            page = self._halve(key, 0, number - 1, number // 2)
        elif number < last and self.KEY.unpack_from(page, len(page) - size)[0] <= key:
            page = self._halve(key, number, last, number + 1)
        else:
            self._found_in = number
        slot = self._slot(page, key, len(page) // size)
        if slot < 0:
            return None
        found: tuple[int, int] = self.ENTRY.unpack_from(page, slot * size)
        return found

    def _halve(self, key: int, low: int, high: int, middle: int) -> bytes:
        """The last of these pages whose first key is at most ``key``, or ``low``; page ``middle`` is looked at first."""
        per_page = _PAGE_BYTES // self.ENTRY.size
        while low < high:
            if self.raw_entry(middle * per_page)[0] <= key:
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        self._found_in = low
        return self._page(low)

    def _page(self, number: int) -> bytes:
        """The entries of a page of the file."""
        size = self.ENTRY.size
        first = number * (_PAGE_BYTES // size)
        wanted = min(_PAGE_BYTES // size, self._stored - first) * size
        page = self.file.read_at(wanted, first * size)
        if len(page) < wanted:
            raise CorruptIndex(f"{self.file.path} has lost entries")
        return page

    def _slot(self, entries: bytes | bytearray, key: int, count: int) -> int:
        """The number of the last of ``count`` entries with a first field of at most ``key``, or -1."""
        unpack, size = self.KEY.unpack_from, self.ENTRY.size
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if unpack(entries, middle * size)[0] <= key:
                low = middle + 1
            else:
                high = middle
        return low - 1
