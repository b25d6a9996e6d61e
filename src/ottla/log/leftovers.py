"""What an interrupted deletion, compaction or split has left in a partition's directory.

Finished with as Kafka does (``LogLoader``, KAFKA-6264): ``.deleted``, ``.cleaned`` and ``.tmp`` files are
removed; a complete ``.swap`` takes the place of the segments it replaces; one that belongs to a split (or a
compaction) of which ``.cleaned`` files are left is not complete.

Two rules are ours, for power losses: an index whose ``.log.swap`` is not there goes, as it may be another log's; and
the old segments are gone for good before the new ones get their names, or one of them might be left beside
what replaces it.
"""

from __future__ import annotations

from ottla.log import names
from ottla.log.disk import Disk
from ottla.log.recovery import CorruptLog
from ottla.log.rules import LogRules
from ottla.log.segment import Segment
from ottla.logs import logger
from ottla.records.batch import CorruptBatch, UnsupportedMagic

log = logger(__name__)

_LOG_SWAP = names.LOG_SUFFIX + names.SWAP_SUFFIX
_DOTS_OF_KAFKA = 2
"""In ``<offset>.log.cleaned``. ``compaction.job.cleaned_path`` puts one more in between."""
_TEMPORARY = (names.DELETED_SUFFIX, names.CLEANED_SUFFIX, names.SWAP_SUFFIX, ".tmp")


def finish_leftovers(
    disk: Disk, directory: str, sizes: dict[str, int], rules: LogRules, now_ms: int
) -> bool:
    """Remove or put in place what an earlier life left half done; whether there was any.

    ``sizes``: the directory's files, to be listed again afterwards. Raises ``OSError``, and
    ``CorruptLog`` for a ``.swap`` that is no segment.
    """
    leftovers = [name for name in sizes if name.endswith(_TEMPORARY)]
    cleaned = [name for name in leftovers if name.endswith(names.CLEANED_SUFFIX)]
    swaps = [name for name in leftovers if name.endswith(names.SWAP_SUFFIX)]
    # Ours name the cleaning they belong to, and each has one segment to put in place: they tell of no split.
    of_split = [name for name in cleaned if name.count(".") == _DOTS_OF_KAFKA]
    oldest_cleaned = min((names.offset_of(name) or 0 for name in of_split), default=None)
    logs = {names.offset_of(name) for name in swaps if name.endswith(_LOG_SWAP)}
    complete = []
    for name in leftovers:
        offset = names.offset_of(name) or 0
        if name not in swaps:
            _remove(disk, directory, name, "temporary")
        elif oldest_cleaned is not None and offset >= oldest_cleaned:
            _remove(disk, directory, name, "part of a split that was not finished")
        elif offset not in logs:
            _remove(disk, directory, name, "its log is in place, or was never complete")
        else:
            complete.append(name)
    if complete:
        ends = [
            _end_of_swap(disk, directory, name, sizes[name], rules, now_ms)
            for name in complete
            if name.endswith(_LOG_SWAP)
        ]
        _swap_in(disk, directory, complete, sizes, max(ends, default=0))
    return bool(leftovers)


def _swap_in(
    disk: Disk, directory: str, swaps: list[str], sizes: dict[str, int], end_offset: int
) -> None:
    """Replace segments by compacted (or split) ones: remove the old up to the end, rename the new."""
    logs = [name for name in swaps if name.endswith(_LOG_SWAP)]
    start_offset = min((names.offset_of(name) or 0 for name in logs), default=end_offset)
    for name in sizes:
        offset = names.offset_of(name)
        if name in swaps or offset is None or name.endswith(_TEMPORARY):
            continue
        if start_offset <= offset < end_offset:
            _remove(disk, directory, name, "replaced by a compacted segment")
    disk.sync_directory(directory)
    for name in swaps:
        path = f"{directory}/{name}"
        disk.rename(path, path.removesuffix(names.SWAP_SUFFIX))
    disk.sync_directory(directory)


def _end_of_swap(
    disk: Disk, directory: str, name: str, size_bytes: int, rules: LogRules, now_ms: int
) -> int:
    """The offset behind the last batch of a ``.log.swap`` file, by its headers."""
    base_offset = names.offset_of(name) or 0
    segment = Segment(disk, directory, base_offset, rules, now_ms, size_bytes=size_bytes)
    segment.log_file.path = f"{directory}/{name}"
    end_offset = base_offset
    try:
        for _, header in segment.headers():
            end_offset = header.next_offset
    except (CorruptBatch, UnsupportedMagic) as error:
        raise CorruptLog(segment.log_file.path, 0, str(error)) from error
    finally:
        segment.log_file.close()
    return end_offset


def _remove(disk: Disk, directory: str, name: str, why: str) -> None:
    log.info("leftover file removed", path=f"{directory}/{name}", reason=why)
    disk.remove(f"{directory}/{name}")
