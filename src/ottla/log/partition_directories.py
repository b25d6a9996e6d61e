"""What the names in a log directory say: which partitions lie there, which are on their way out or in."""

from __future__ import annotations

from typing import NamedTuple

from ottla.log import names
from ottla.log.disk import Disk
from ottla.logs import logger

log = logger(__name__)

Key = tuple[str, int]


class PartitionDirectories(NamedTuple):
    """Paths by what is to become of them.

    ``current``: to be loaded, in order; ``deleted``: to be removed; ``future``: copies of a move that was cut
    short.
    """

    current: list[tuple[Key, str]]
    deleted: list[str]
    future: dict[Key, str]


def find_partitions(disk: Disk, directory: str) -> PartitionDirectories:
    """Sort what lies in ``directory``. Raises ``OSError``."""
    found = PartitionDirectories([], [], {})
    for entry in disk.entries(directory):
        if not entry.is_directory:
            continue
        name = names.parse_directory_name(entry.name)
        path = f"{directory}/{entry.name}"
        if name is None:
            log.warning("not the directory of a partition, left alone", path=path)
            continue
        key = name.topic, name.partition
        if name.suffix == names.DELETE_DIRECTORY_SUFFIX:
            found.deleted.append(path)
        elif name.suffix == names.FUTURE_DIRECTORY_SUFFIX:
            other = found.future.setdefault(key, path)
            if other != path:
                found.deleted.append(path)  # of two copies neither is needed
        elif name.suffix:
            log.warning("neither loaded nor removed", path=path)
        else:
            found.current.append((key, path))
    found.current.sort()
    return found
