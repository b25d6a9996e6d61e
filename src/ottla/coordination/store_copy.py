"""What is in a store's file, read from a copy: for looking at it without touching it.

Rules: the file is never opened in its place: even reading would make SQLite write beside it, and a broker has
it locked. The write-ahead log is copied after the file. Where the broker wrote in between, the copy may not
hold together, so it is made again.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import NamedTuple

from ottla.coordination.sqlite_file import FILE_NAME

__all__ = ["FILE_NAME", "StoreCopy", "read_copy"]

_ATTEMPTS = 3


class StoreCopy(NamedTuple):
    """The znodes by path; ``problem`` says why they can't (all) be read, None where they can."""

    znodes: dict[str, bytes]
    problem: str | None

    def children(self, path: str) -> list[str]:
        """The names below a znode, in order."""
        prefix = f"{path}/"
        below = (name.removeprefix(prefix) for name in self.znodes if name.startswith(prefix))
        return sorted({name for name in below if "/" not in name})


def read_copy(path: str | Path) -> StoreCopy | None:
    """What is in the store at ``path``; None if there is none. Raises ``OSError``."""
    path = Path(path)
    result: StoreCopy | None = None
    for _ in range(_ATTEMPTS):
        if not path.exists():
            return None
        with tempfile.TemporaryDirectory(prefix="ottla-store-") as directory:
            copy = Path(directory) / path.name
            shutil.copyfile(path, copy)
            ahead = path.with_name(path.name + "-wal")
            if ahead.exists():
                shutil.copyfile(ahead, copy.with_name(copy.name + "-wal"))
            result = _read(copy, path)
        if result.problem is None:
            break
    return result


def _read(copy: Path, path: Path) -> StoreCopy:
    try:
        connection = sqlite3.connect(copy, isolation_level=None)
        try:
            answers = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
            if answers != ["ok"]:
                return StoreCopy({}, f"{path} is damaged: {'; '.join(map(str, answers))}")
            rows = connection.execute("SELECT path, data FROM znode").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return StoreCopy({}, f"{path} can't be read: {error}")
    return StoreCopy({name: bytes(data) for name, data in rows}, None)
