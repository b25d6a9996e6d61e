"""Which leader epoch each offset of a log was written in: epochs and the offsets they start at. Sans-IO.

The rules kept here (KIP-101, KIP-279, ``LeaderEpochFileCache``):

- Epochs and start offsets both ascend; a new entry removes those that contradict it.
- An epoch ends where the next one starts, the latest one at the log's end.
- Cutting the log's end removes epochs that start behind it; cutting its start moves the oldest one up.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

UNDEFINED_EPOCH = -1


class EpochStart(NamedTuple):
    """An epoch and the first offset that was written in it."""

    epoch: int
    start_offset: int


class EpochEnd(NamedTuple):
    """An epoch and the offset behind the last one of it."""

    epoch: int
    end_offset: int


class LeaderEpochs:
    """The epochs of one log in ascending order. ``latest`` is -1 while there is none.

    ``changed`` says that the checkpoint file does not tell of all of it yet; who writes it clears it.
    """

    __slots__ = ("changed", "entries", "latest")

    def __init__(self, entries: list[EpochStart] | None = None) -> None:
        """Takes over ``entries``; contradictory ones are resolved as if assigned one by one."""
        self.entries: list[EpochStart] = []
        self.latest = UNDEFINED_EPOCH
        for entry in entries or ():
            self.assign(*entry)
        self.changed = False

    def assign(self, epoch: int, start_offset: int) -> bool:
        """``epoch`` starts at ``start_offset``; whether that was news.

        An epoch that is known already keeps its start, unless this one is earlier.
        Raises ``ValueError`` for a negative epoch or offset.
        """
        if epoch < 0 or start_offset < 0:
            raise ValueError(f"epoch {epoch} at offset {start_offset}")
        entries = self.entries
        if entries and entries[-1].epoch == epoch and start_offset >= entries[-1].start_offset:
            return False
        while entries and (entries[-1].epoch >= epoch or entries[-1].start_offset >= start_offset):
            entries.pop()
        entries.append(EpochStart(epoch, start_offset))
        self._moved()
        return True

    def end_offset_for(self, epoch: int, log_end_offset: int) -> EpochEnd | None:
        """The end of the largest epoch that is at most ``epoch``; None if that can't be told.

        Where ``epoch`` is older than all that is known, the answer is ``epoch`` itself and the start
        of the first known one: what lay between is deleted.
        """
        if epoch == UNDEFINED_EPOCH or not self.entries:
            return None
        if epoch == self.latest:
            return EpochEnd(epoch, log_end_offset)
        higher = bisect_right(self.entries, epoch, key=_epoch_of)
        if higher == len(self.entries):
            return None
        end_offset = self.entries[higher].start_offset
        return EpochEnd(self.entries[higher - 1].epoch if higher else epoch, end_offset)

    def epoch_for(self, offset: int) -> int | None:
        """The epoch that ``offset`` was (or will be) written in; None if it lies before all."""
        after = bisect_right(self.entries, offset, key=_start_of)
        return self.entries[after - 1].epoch if after else None

    def truncate_from_end(self, end_offset: int) -> None:
        """The log ends at ``end_offset`` now: drop the epochs that start there or behind."""
        entries = self.entries
        if entries and entries[-1].start_offset >= end_offset:
            while entries and entries[-1].start_offset >= end_offset:
                entries.pop()
            self._moved()

    def truncate_from_start(self, start_offset: int) -> None:
        """The log starts at ``start_offset`` now: the epoch of that offset starts there."""
        entries = self.entries
        gone = bisect_right(entries, start_offset, key=_start_of)
        if gone > 1 or (gone and entries[0].start_offset < start_offset):
            entries[:gone] = [EpochStart(entries[gone - 1].epoch, start_offset)]
            self._moved()

    def clear(self) -> None:
        """Forget all."""
        if self.entries:
            self.entries.clear()
            self._moved()

    def _moved(self) -> None:
        self.latest = self.entries[-1].epoch if self.entries else UNDEFINED_EPOCH
        self.changed = True


def _epoch_of(entry: EpochStart) -> int:
    return entry.epoch


def _start_of(entry: EpochStart) -> int:
    return entry.start_offset
