"""A run of bytes of a segment's file, read or sent by whoever answers the fetch."""

from __future__ import annotations

from ottla.log.disk import Disk
from ottla.log.files import File


class SegmentRegion:
    """``ottla.wire.regions.FileRegion`` over a segment's ``.log`` file.

    It pins the file, so that neither the descriptor pool nor the segment's deletion takes the bytes
    away. The pin ends with ``close``, or with the region itself if it is dropped unsent.
    """

    __slots__ = ("_disk", "_file", "_length", "position")

    def __init__(self, disk: Disk, file: File, position: int, length: int) -> None:
        """``length`` bytes of ``file`` from ``position``. Raises ``OSError`` if it can't be opened."""
        self._file: File | None = None
        file.pin()
        self._disk = disk
        self._file = file
        self.position = position
        self._length = length

    def __len__(self) -> int:
        """The region's length in bytes."""
        return self._length

    def fileno(self) -> int:
        """The file's descriptor. Raises ``OSError`` once the region is closed."""
        return self._pinned().pinned_descriptor()

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``offset`` into the region, by default all that follow.

        Blocks for the disk where they are not resident. Raises ``OSError``, also where the file has been
        cut meanwhile (a truncated follower).
        """
        size = self._length - offset if length is None else length
        position = self.position + offset
        descriptor = self._pinned().pinned_descriptor()
        data = self._disk.pread(descriptor, size, position)
        if len(data) < size:
            data += self._disk.read_fully(descriptor, size - len(data), position + len(data))
            if len(data) < size:
                raise OSError(f"the file ends {size - len(data)} bytes before the region does")
        return data

    def read_resident(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset`` into the region with what the page cache holds; how many bytes that gave.

        Does not block: it gives fewer, or none, where the rest must come from the disk, or the file has been cut
        meanwhile. Raises ``OSError``.
        """
        descriptor = self._pinned().pinned_descriptor()
        return self._disk.read_resident(descriptor, buffer, self.position + offset)

    def close(self) -> None:
        """Drop the pin. A second call does nothing."""
        file, self._file = self._file, None
        if file is not None:
            file.unpin()

    def __del__(self) -> None:
        self.close()

    def _pinned(self) -> File:
        if self._file is None:
            raise OSError("the region is closed")
        return self._file
