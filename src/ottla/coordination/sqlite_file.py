"""The durable znodes in one SQLite file: created whole, read once, then one transaction a change.

Rules: the file is there complete or not at all (built beside, synced, renamed, directory synced). One
process at a time (``locking_mode=EXCLUSIVE``). Every open raises the zxid epoch durably, so that no
zxid, and so no broker epoch, is ever given out twice. A commit returns once it is on disk (WAL,
``synchronous=FULL``: one sync); after a failed sync it is never tried again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from ottla.coordination.store import StoreError
from ottla.coordination.tree import Changes, Row

FILE_NAME = "ottla-store.sqlite"
"""In the data directory. Kafka's log loading looks at directories only, so the name can't clash."""

_APPLICATION_ID = 0x4F54544C  # "OTTL"
_FORMAT_VERSION = 1
_TABLES = (
    "CREATE TABLE znode (path TEXT PRIMARY KEY, data BLOB NOT NULL, czxid INTEGER NOT NULL,"
    " mzxid INTEGER NOT NULL, pzxid INTEGER NOT NULL, ctime_ms INTEGER NOT NULL,"
    " mtime_ms INTEGER NOT NULL, version INTEGER NOT NULL, creates INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)
_CHECKPOINT_ROWS = 4_000
"""Rows written between two checkpoints. SQLite's own ones are off: they hide a failed sync."""

_LEFT_OVER_BYTES_MAX = 4 * 1024 * 1024
"""What crashes may have left in the write-ahead log before an open folds it into the file."""

_UPSERT = "INSERT OR REPLACE INTO znode VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class StoreFileError(StoreError):
    """The file can't be opened: locked by another process, damaged, or not ours."""


class DiskFull(StoreError):
    """A transaction found no room; it was rolled back and may be tried again."""


class SqliteFile:
    """An open store file. Not for use by two threads at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._rows_since_checkpoint = 0

    @classmethod
    def open(cls, path: Path) -> tuple[SqliteFile, list[Row], int]:
        """Open an existing file: all rows by path, and the zxid epoch that begins now.

        Raises StoreFileError.
        """
        connection: sqlite3.Connection | None = None
        try:
            connection = _connect(path)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE counter SET value = value + 1 WHERE name = 'zxid_epoch'")
            epoch = connection.execute("SELECT value FROM counter WHERE name = 'zxid_epoch'")
            (zxid_epoch,) = epoch.fetchone()
            rows = [Row(*row) for row in connection.execute("SELECT * FROM znode ORDER BY path")]
            connection.execute("COMMIT")
            file = cls(connection, path)
            ahead = Path(f"{path}-wal")
            if ahead.exists() and ahead.stat().st_size > _LEFT_OVER_BYTES_MAX:
                file._checkpoint()
        except (sqlite3.Error, TypeError) as error:
            if connection is not None:
                connection.close()
            raise _open_error(path, error) from error
        return file, rows, zxid_epoch

    @classmethod
    def create(cls, path: Path, rows: Iterable[Row], zxid_epoch: int) -> SqliteFile:
        """Make a new file that holds ``rows``; durable when this returns. Raises StoreFileError."""
        leftovers = [f"{path}{suffix}" for suffix in ("-wal", "-journal")]
        for leftover in leftovers:
            if os.path.exists(leftover):  # it would be replayed into the new file
                raise StoreFileError(f"{leftover} is there, but {path.name} itself is missing")
        building = path.with_name(path.name + ".new")
        try:
            for suffix in ("", "-wal", "-journal", "-shm"):
                Path(f"{building}{suffix}").unlink(missing_ok=True)
            _build(building, rows, zxid_epoch)
            _sync(building)
            os.rename(building, path)
            _sync(path.parent)
            return cls(_connect(path), path)
        except (sqlite3.Error, OSError) as error:
            raise _open_error(path, error) from error

    def commit(self, changes: Changes) -> None:
        """Write ``changes`` in one transaction, durable when this returns.

        Raises DiskFull (nothing was written), or sqlite3.Error, after which nothing may be written.
        """
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_UPSERT, changes.upserts)
            connection.executemany(
                "DELETE FROM znode WHERE path = ?", [(path,) for path in changes.deletes]
            )
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if _is_full(error):
                raise DiskFull(f"no room on the disk of {self._path}") from error
            raise
        self._rows_since_checkpoint += len(changes.upserts) + len(changes.deletes)
        if self._rows_since_checkpoint >= _CHECKPOINT_ROWS:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Fold the write-ahead log into the file. What it holds is durable already."""
        self._rows_since_checkpoint = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            if not _is_full(error):  # no room: the log stays as it is until the next attempt
                raise

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it."""
        self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    # The one thread that opens is not always the one that closes; calls never overlap.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        _check_format(connection, path)  # before anything writes to what may not be ours
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except (sqlite3.Error, StoreFileError):
        connection.close()
        raise
    return connection


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != _APPLICATION_ID:
        raise StoreFileError(f"{path} is an SQLite file, but no store of ours")
    if version != _FORMAT_VERSION:
        raise StoreFileError(
            f"{path} has format {version}; this version of Ottla reads {_FORMAT_VERSION}"
        )


def _build(path: Path, rows: Iterable[Row], zxid_epoch: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")  # the whole file is synced once, by the caller
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={_FORMAT_VERSION}")
        for table in _TABLES:
            connection.execute(table)
        connection.execute("INSERT INTO counter VALUES ('zxid_epoch', ?)", (zxid_epoch,))
        connection.executemany(_UPSERT, rows)
        connection.execute("COMMIT")
    finally:
        connection.close()  # checkpoints, and removes the write-ahead log


def _open_error(path: Path, error: Exception) -> StoreFileError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_BUSY"):
        return StoreFileError(f"{path} is in use by another process")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or isinstance(error, TypeError):
        return StoreFileError(f"{path} is damaged: {error}")
    return StoreFileError(f"{path} can't be opened: {error}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
