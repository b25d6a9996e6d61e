"""In which order checkpoints were taken, and which of them are on the disk.

Rule: a checkpoint is taken on the loop and written in some thread, so a later one may be there first: an earlier
one is not written over it. ``LogDirectory`` keeps one ``CheckpointTurns`` and serializes the writing.
"""

from __future__ import annotations

from typing import NamedTuple


class Checkpoint(NamedTuple):
    """Offsets as they were at a moment; those of a later moment have a larger ``number``."""

    number: int
    offsets: dict[tuple[str, int], int]


class CheckpointTurns:
    """The last number taken, and the last one written, of each checkpoint by its file's name."""

    def __init__(self) -> None:
        self._number = 0
        self._taken: dict[str, int] = {}
        self._written: dict[str, int] = {}

    def take(self, name: str, offsets: dict[tuple[str, int], int]) -> Checkpoint:
        """``offsets`` as they are now, to be written to ``name``."""
        self._number += 1
        self._taken[name] = self._number
        return Checkpoint(self._number, offsets)

    def is_next(self, name: str, checkpoint: Checkpoint) -> bool:
        """Whether no later one is in ``name``."""
        return checkpoint.number > self._written.get(name, 0)

    def wrote(self, name: str, checkpoint: Checkpoint) -> None:
        """``checkpoint`` is in ``name``."""
        self._written[name] = checkpoint.number

    @property
    def outstanding(self) -> bool:
        """Whether one was taken that is not on the disk: it may be at any moment."""
        written = self._written.get
        return any(number > written(name, 0) for name, number in self._taken.items())
