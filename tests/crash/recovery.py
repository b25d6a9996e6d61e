"""Recovery of a copy of a data directory, twice, and what its files hold after each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ottla.log.directory import LogDirectory
from ottla.log.names import CLEAN_SHUTDOWN
from ottla.settings.topic_config import TopicConfig

COMPARED = (".log", ".index", ".timeindex", ".txnindex", ".snapshot", "leader-epoch-checkpoint")
NOW_MS = 1_700_000_000_000


def contents(directory: Path) -> dict[str, bytes]:
    """The files of all partitions by their relative paths."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.glob("*/*"))
        if path.name.endswith(COMPARED)
    }


def differences(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    """Where two directories' files differ."""
    found = [f"{name} is there only once" for name in sorted(first.keys() ^ second.keys())]
    for name in sorted(first.keys() & second.keys()):
        ours, theirs = first[name], second[name]
        if ours != theirs:
            at = next(
                (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
                min(len(ours), len(theirs)),
            )
            found.append(f"{name} ({len(ours)} and {len(theirs)} bytes) differs from byte {at} on")
    return found


def recover_twice(
    data: Path, work: Path, config_of: Callable[[str], TopicConfig]
) -> tuple[dict[str, bytes], list[str]]:
    """Recover a copy of ``data``, and a copy of what that leaves before anything closes it.

    Returns the files after the first recovery, and where those after the second one differ.
    """
    once, twice = work / "once", work / "twice"
    shutil.copytree(data, once)
    (once / CLEAN_SHUTDOWN).unlink(missing_ok=True)  # the kill may have come a moment too late
    first = LogDirectory(str(once))
    first.open()
    try:
        first.load(config_of, NOW_MS)
        assert not first.quarantined, first.quarantined
        assert not first.had_clean_shutdown
        shutil.copytree(once, twice)
    finally:
        first.close(NOW_MS, clean=False)
    second = LogDirectory(str(twice))
    second.open()
    try:
        second.load(config_of, NOW_MS + 1)
        after_second = contents(twice)
    finally:
        second.close(NOW_MS, clean=False)
    after_first = contents(once)
    shutil.rmtree(once)
    shutil.rmtree(twice)
    return after_first, differences(after_first, after_second)
