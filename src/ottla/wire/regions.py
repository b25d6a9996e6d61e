"""Record bytes that stay in their file until they are sent."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class FileRegion(Protocol):
    """A run of bytes of an open file, handed from the log to the connection uncopied.

    It pins its file: a deleted segment stays readable until ``close``.
    """

    def __len__(self) -> int:
        """The region's length in bytes."""
        ...

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``offset`` into the region, by default all that follow.

        Blocks for the disk where they are not resident. Raises ``OSError``, also for a file that has
        become too short.
        """
        ...

    def read_resident(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset`` into the region with what the page cache holds; how many bytes that gave.

        Does not block: it gives fewer, or none, where the rest must come from the disk, or the file has become too short.
        ``buffer`` is no longer than what follows in the region. Raises ``OSError``.
        """
        ...

    def close(self) -> None:
        """Drop the pin. A second call does nothing."""
        ...
