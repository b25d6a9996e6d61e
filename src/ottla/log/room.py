"""Room ahead: a file that is synced again and again after a little was appended ends further on than what is in it.

A sync of bytes that make the file longer has to write the file's new size, too, in a journal on most file systems: that
is a third of what it takes. So once a file has been synced for a little more some times, its size is moved ahead of what
is written, by a hole (``ftruncate``, which takes no blocks), before the next sync. As in a file that Apache Kafka has
preallocated (``log.preallocate``), zeros follow the last batch then. They are cut off when the segment is rolled and
when the broker stops, and by the recovery after any other end: a batch cannot begin with zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.log.disk import Disk

ROOM_BYTES = 64 << 10
"""How far ahead: a change of the size, and its journal, for so many bytes."""
LITTLE_BYTES = 4096
"""Where more is appended between two syncs, each needs other new blocks, and its journal for them: room is of no use."""
SYNCS_BEFORE = 8
"""So many syncs for a little, one after another, before there is room. Very many partitions with a record each have none."""
SIZE_MAX = (1 << 31) - 1
"""A segment's positions have 32 bits with a sign, here and in Apache Kafka."""
_PIECE_BYTES = 1 << 20


class Room:
    """How far ahead of what is in it a file ends, and when it is to."""

    __slots__ = ("_little", "_synced_to", "end")

    def __init__(self) -> None:
        self.end = 0
        """Where the file was made to end; nothing where what is in it has come as far."""
        self._synced_to = 0
        self._little = 0

    def wanted(self, size: int) -> int:
        """Where the file should end, now that what is in it up to ``size`` is to be synced; 0: where it does."""
        more = size - self._synced_to
        self._synced_to = size
        if more <= 0 or size + more <= self.end:
            return 0
        if more > LITTLE_BYTES:
            self._little = 0
            return 0
        self._little += 1
        if self._little <= SYNCS_BEFORE or size + ROOM_BYTES > SIZE_MAX:
            return 0
        return size + ROOM_BYTES

    def refused(self) -> None:
        """The file could not be made to end there: not so soon again."""
        self._little = 0


def is_room(disk: Disk, descriptor: int, position: int, size: int) -> bool:
    """Whether nothing but zeros lies from ``position`` up to the file's ``size``. Raises ``OSError``."""
    while position < size:
        piece = disk.read_fully(descriptor, min(_PIECE_BYTES, size - position), position)
        if not piece or piece.strip(b"\0"):
            return False
        position += len(piece)
    return True
