"""How cleaned segments take the place of old ones, so that a crash at any moment leaves the old or the new.

The rules kept here (``LocalLog.replaceSegments``; decision "Compaction in a process of its own"):

- ``prepare_swap`` renames the new files ``.cleaned`` -> ``.swap``, the ``.log`` last. Until that name is synced the
  old segments are untouched, and a restart removes what it finds.
- Once it is synced, the swap counts: a restart finishes it. Then ``exchange_segments`` renames the old files
  ``.deleted`` and lets readers see the new segment, whose files still have ``.swap`` names.
- Once that is synced, ``finish_swap`` gives the new files their names. (Synced before: else a power loss could
  leave the new name beside an old segment that it replaces.)

Whoever drives it syncs the directory between the steps, off the loop. Meanwhile the log goes on: who moves
its segments otherwise calls ``settle_swap`` first, which takes the swap back or finishes it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ottla.log import names
from ottla.log.flushed_log import FlushedLog
from ottla.log.segment import Segment
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.log.compaction.job import CleanedGroup

log = logger(__name__)


class PendingSwap(NamedTuple):
    """A swap under way: the new segment, the old ones, the suffixes of the new one's files."""

    new: Segment
    old: list[Segment]
    suffixes: list[str]


class CleanedLog(FlushedLog):
    """What compaction does to a log. ``LocalLog`` does the rest that moves segments.

    ``clean_end_offset``: below it each key has one record (0: nothing is known to be clean).
    """

    __slots__ = ()

    def prepare_swap(self, group: CleanedGroup, now_ms: int) -> PendingSwap | None:
        """Begin to replace segments by the cleaned one; None if they are not there any more (or are moving).

        Then the cleaning has to end, unless ``is_gone`` says that all of them are. The directory has to
        be synced before ``exchange_segments``. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        self.check_usable()
        self.settle_swap()
        old = self._neighbours(group.replaced)
        if old is None or self.moving:
            return None
        new = Segment(
            self._disk,
            self.directory,
            group.base_offset,
            self.rules,
            now_ms,
            size_bytes=group.size_bytes,
            index_bytes=group.index_bytes,
            time_index_bytes=group.time_index_bytes,
        )
        swap = PendingSwap(new, old, sorted(group.suffixes, key=names.LOG_SUFFIX.__eq__))
        self._swap, self._is_exchanged = swap, False
        try:
            for suffix in swap.suffixes:
                path = self._path_of(new, suffix)
                cleaned = f"{path}.{group.token}{names.CLEANED_SUFFIX}"
                self._disk.rename(cleaned, path + names.SWAP_SUFFIX)
        except OSError as error:
            self._take_back()
            what = f"cleaned segment of {self.directory} could not be renamed"
            raise self.health.failed_operation(what, error) from error
        for file in new.files:
            file.path += names.SWAP_SUFFIX
        return swap

    def exchange_segments(self, swap: PendingSwap, now_ms: int) -> bool:
        """Let ``swap``'s new segment be the log's, and rename the old ones; False if it was taken back.

        The names of ``prepare_swap`` are durable by now; those of this have to be before ``finish_swap``.
        Raises ``KafkaError``: the directory is offline then, and its next start finishes the swap.
        """
        self.check_usable()
        if self._swap is not swap:
            return False
        try:
            for segment in swap.old:
                replaced = segment.base_offset == swap.new.base_offset
                self._throw_away(segment.retire(with_snapshot=not replaced), now_ms)
                self._forget_unsynced(segment)
        except OSError as error:
            self.health.fail(error)
            raise self.health.offline_error() from error
        self._segments.replace(swap.old, swap.new)
        self._is_exchanged = self._names_changed = True
        return True

    def finish_swap(self, swap: PendingSwap) -> None:
        """Give the new segment's files their names. Nothing if somebody else had to do that.

        Durable with the next flush, but nothing depends on it. Raises ``KafkaError``.
        """
        if self._swap is not swap or self._unusable is not None:
            return
        self.check_usable()
        try:
            for file in swap.new.files:
                file.rename(file.path.removesuffix(names.SWAP_SUFFIX))
            for suffix in swap.suffixes:
                if suffix == names.TRANSACTION_INDEX_SUFFIX:
                    path = self._path_of(swap.new, suffix)
                    self._disk.rename(path + names.SWAP_SUFFIX, path)
        except OSError as error:
            self.health.fail(error)
            raise self.health.offline_error() from error
        self._swap = None
        self._names_changed = True

    def settle_swap(self) -> None:
        """Have no swap under way: it is taken back, or finished if the log has the new segment already.

        Blocks for the disk to sync in the latter case. Raises ``KafkaError``.
        """
        swap = self._swap
        if swap is None:
            return
        if not self._is_exchanged:
            self._take_back()
            return
        try:
            self._disk.sync_directory(self.directory)
        except OSError as error:
            self.health.fail(error)
            raise self.health.offline_error() from error
        self.finish_swap(swap)

    def is_gone(self, bases: list[int]) -> bool:
        """Whether no segment has one of these base offsets any more."""
        return not {segment.base_offset for segment in self._segments} & set(bases)

    def limit_clean_end(self, offset: int) -> None:
        """Nothing at or behind ``offset`` counts as clean any more: the log is cut there."""
        self.clean_end_offset = min(self.clean_end_offset, offset)

    def mark_clean(self, end_offset: int) -> None:
        """All below ``end_offset`` was cleaned, and every swap of it is durable."""
        self.clean_end_offset = min(end_offset, self.log_end_offset)

    def _take_back(self) -> None:
        """Remove what ``prepare_swap`` has renamed: the ``.log`` first, without which the rest is nothing."""
        swap, self._swap = self._swap, None
        assert swap is not None
        swap.new.close()
        try:
            for suffix in reversed(swap.suffixes):
                self._disk.remove(self._path_of(swap.new, suffix) + names.SWAP_SUFFIX)
        except OSError as error:  # what is left would come back at the next start
            self.health.fail(error)
            raise self.health.offline_error() from error
        self._names_changed = True
        log.info("swap taken back", directory=self.directory, base_offset=swap.new.base_offset)

    def _neighbours(self, bases: list[int]) -> list[Segment] | None:
        """The segments with these base offsets, if the log has all of them next to each other."""
        following = self._segments.from_offset(bases[0])[: len(bases)]
        if [segment.base_offset for segment in following] != bases:
            return None
        return None if self._segments.active in following else following

    def _path_of(self, segment: Segment, suffix: str) -> str:
        return f"{self.directory}/{names.file_name(segment.base_offset, suffix)}"
