"""The ``.snapshot`` files of a partition: taken, found, and removed as Kafka does.

One is taken at every roll (at the new segment's base offset) and at a clean close (at the log's end),
so that the producers' state is rebuilt from the newest one and the few batches behind it.
Source: ``ProducerStateManager``, ``UnifiedLog.rebuildProducerState``.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.log.disk import Disk
from ottla.log.names import SNAPSHOT_SUFFIX, file_name
from ottla.log.producer_snapshot import CorruptSnapshot, decode_snapshot, encode_snapshot
from ottla.log.producer_state import ProducerState
from ottla.logs import logger

log = logger(__name__)

_SNAPSHOT_BYTES_MAX = 1 << 30


def snapshot_path(directory: str, offset: int) -> str:
    """The snapshot of a partition at ``offset``."""
    return f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}"


def take_snapshot(disk: Disk, directory: str, state: ProducerState) -> str | None:
    """Write the state as of ``state.end_offset``, unless there is a snapshot of that already.

    Returns the path, which is not synced yet. A snapshot saves time and holds nothing that the log
    does not: where it can't be written for lack of room there is none, and None is returned.
    """
    if state.end_offset <= state.snapshot_offset:
        return None
    path = snapshot_path(directory, state.end_offset)
    try:
        disk.write_file(path, encode_snapshot(state.producers))
    except OSError as error:
        log.warning("producer snapshot not written", path=path, reason=str(error))
        disk.remove(path)
        return None
    state.snapshot_offset = state.end_offset
    return path


def load_newest(
    disk: Disk, directory: str, offsets: Iterable[int], at_most: int
) -> tuple[ProducerState | None, list[int]]:
    """The state of the newest snapshot at or before ``at_most`` that can be read.

    Returns None where there is none, and the offsets of corrupt ones, which are removed.
    """
    corrupt = []
    for offset in sorted(offsets, reverse=True):
        if offset > at_most:
            continue
        path = snapshot_path(directory, offset)
        try:
            producers = decode_snapshot(disk.read_file(path, _SNAPSHOT_BYTES_MAX))
        except (CorruptSnapshot, FileNotFoundError, ValueError) as error:
            log.warning("producer snapshot removed", path=path, reason=str(error))
            disk.remove(path)
            corrupt.append(offset)
            continue
        state = ProducerState(offset)
        state.producers = producers
        state.snapshot_offset = offset
        return state, corrupt
    return None, corrupt


class UnprovenSnapshots:
    """The snapshots of a partition under recovery that lie behind where it begins.

    They may say what the log does not: one stays only if recovery would write the same at that offset.
    ``proven``: the offsets of those. ``older``: of those before it, which are taken as they are.
    """

    __slots__ = ("_directory", "_disk", "_unproven", "older", "proven")

    def __init__(self, disk: Disk, directory: str, offsets: Iterable[int]) -> None:
        self._disk = disk
        self._directory = directory
        self.proven: list[int] = []
        self.older: list[int] = []
        self._unproven = set(offsets)

    def begin(self, first_offset: int) -> list[int]:
        """Recovery begins at that offset: returns ``older``."""
        self.older = sorted(offset for offset in self._unproven if offset <= first_offset)
        self._unproven.difference_update(self.older)
        return self.older

    def take(self, state: ProducerState) -> None:
        """As ``take_snapshot``, but for one that is there already and says the same."""
        offset = state.end_offset
        if offset in self._unproven and self._says(offset, encode_snapshot(state.producers)):
            state.snapshot_offset = offset
        elif take_snapshot(self._disk, self._directory, state) is None:
            return
        self._unproven.discard(offset)
        self.proven.append(offset)

    def end(self) -> None:
        """Remove those that did not prove right. Raises ``OSError``."""
        for offset in sorted(self._unproven):
            self._disk.remove(snapshot_path(self._directory, offset))
        self._unproven.clear()

    def _says(self, offset: int, content: bytes) -> bool:
        try:
            path = snapshot_path(self._directory, offset)
            return self._disk.read_file(path, _SNAPSHOT_BYTES_MAX) == content
        except (FileNotFoundError, ValueError):
            return False


def stray_snapshots(offsets: Iterable[int], segment_bases: Iterable[int]) -> list[int]:
    """The snapshots that belong to no segment.

    The newest one is none of them where it lies behind the last segment's base: a clean stop took it.
    """
    bases = set(segment_bases)
    stray = sorted(offset for offset in offsets if offset not in bases)
    if stray and bases and stray[-1] > max(bases):
        stray.pop()
    return stray
