"""Record bytes that stay in their file until they are sent."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class FileRegion(Protocol):
    """A run of bytes of an open file, handed from the log to the connection uncopied.

    It pins its file: the descriptor stays valid, and a deleted segment readable, until ``close``.
    """

    position: int
    """Where the region starts in the file, in bytes."""

    def __len__(self) -> int:
        """The region's length in bytes."""
        ...

    def fileno(self) -> int:
        """The file's descriptor; raises ``OSError`` if the file cannot be opened."""
        ...

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``offset`` into the region, by default all that follow.

        Blocks for the disk where they are not resident. Raises ``OSError``, also for a file that has
        become too short.
        """
        ...

    def is_resident(self) -> bool:
        """Whether the page cache holds it, so that reading it does not block."""
        ...

    def close(self) -> None:
        """Drop the pin. A second call does nothing."""
        ...
