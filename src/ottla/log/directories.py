"""The log directories of one broker: which partition lies where, and what is left when one of them fails.

The rules kept here (``LogManager``, KIP-112, KIP-113):

- A directory that cannot be opened, read or loaded is offline, and the others work; without any the broker
  does not start. One that another process has open, or that another broker or cluster owns, is no failure of a
  disk but a mistake, and ends the start.
- A new partition goes to the directory that was asked for (AlterReplicaLogDirs), or to the one with the
  fewest partitions. While a directory is offline nothing is made anew that may lie in there.
- A partition lies in one directory. In two it is an error, unless the end of a move was cut short: then the
  longer of the two is kept. See ``ottla.log.moved``.

Opening, loading and closing block; the rest belongs to the loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from errno import EIO

from ottla.errors import ErrorCode, KafkaError
from ottla.log.checkpoints import CorruptCheckpoint, MetaProperties
from ottla.log.directory import LogDirectory
from ottla.log.disk import Disk
from ottla.log.flusher import Flusher
from ottla.log.log import Log
from ottla.logs import logger
from ottla.settings.definitions import TopicConfig

log = logger(__name__)

Key = tuple[str, int]


class DirectoryMismatch(Exception):
    """The directories do not belong together, or not to this broker; the message says which."""


class LogDirectories:
    """The entries of ``log.dirs``, in their order. Iterating gives those that are online."""

    def __init__(
        self,
        paths: Sequence[str],
        disk: Disk | None = None,
        *,
        flusher: Flusher | None = None,
        on_offline: Callable[[str, OSError], None] | None = None,
    ) -> None:
        """Nothing is touched before ``open``. For the rest see ``LogDirectory``.

        Raises ``DirectoryMismatch`` if a directory is named twice.
        """
        disk = disk if disk is not None else Disk()
        self.disk = disk
        self.all = [
            LogDirectory(path, disk, flusher=flusher, on_offline=on_offline) for path in paths
        ]
        self.preferred: dict[Key, LogDirectory] = {}
        """Where partitions are to be made that are not here yet, as AlterReplicaLogDirs said."""
        self._first_error: Exception | None = None
        real = [os.path.realpath(directory.path) for directory in self.all]
        if len(set(real)) < len(real):
            raise DirectoryMismatch(f"Duplicate log directory found: {', '.join(paths)}")

    def __iter__(self) -> Iterator[LogDirectory]:
        return iter([directory for directory in self.all if directory.offline is None])

    @property
    def is_gone(self) -> bool:
        """Whether no directory is left."""
        return all(directory.offline is not None for directory in self.all)

    @property
    def some_offline(self) -> bool:
        """Whether a directory is offline."""
        return any(directory.offline is not None for directory in self.all)

    def at(self, path: str) -> LogDirectory | None:
        """The directory with this absolute path."""
        return next((directory for directory in self.all if directory.path == path), None)

    # Opening and loading

    def open(self) -> None:
        """Make and lock every directory; one that fails is offline.

        Raises ``DirectoryInUse``, or the first failure if nothing is left.
        """
        for directory in self.all:
            try:
                directory.open()
            except OSError as error:
                self._failed(directory, error)
        self._need_one()

    def identify(self, broker_id: int) -> str | None:
        """The cluster that the directories belong to; None if all are new.

        A directory whose ``meta.properties`` cannot be read is offline. Raises ``DirectoryMismatch``
        where they disagree, or belong to another broker; or the first failure if nothing is left.
        """
        cluster_id: str | None = None
        for directory in self:
            try:
                known = directory.read_meta_properties()
            except (CorruptCheckpoint, OSError) as error:
                self._failed(directory, error)
                continue
            if known is None:
                continue
            if known.broker_id != broker_id:
                raise DirectoryMismatch(
                    f"node.id is {broker_id}, but {directory.path} belongs to broker {known.broker_id}"
                )
            if cluster_id is not None and known.cluster_id != cluster_id:
                raise DirectoryMismatch(
                    f"{directory.path} belongs to cluster {known.cluster_id}, "
                    f"another log directory to {cluster_id}"
                )
            cluster_id = known.cluster_id
        self._need_one()
        return cluster_id

    def sign(self, meta: MetaProperties) -> None:
        """Say in each directory that says nothing yet whom it belongs to.

        Raises the first failure if nothing is left.
        """
        for directory in self:
            try:
                if directory.read_meta_properties() is None:
                    directory.write_meta_properties(meta)
            except OSError as error:
                self._failed(directory, error)
        self._need_one()

    def load(self, config_of: Callable[[str], TopicConfig], now_ms: int) -> None:
        """Load every directory; one that fails is offline. May take long: off the loop.

        Raises ``DirectoryMismatch`` if a partition lies in two, or the first failure if nothing is left.
        """
        for directory in self:
            try:
                directory.load(config_of, now_ms)
            except OSError as error:
                self._first_error = self._first_error or error
        self._need_one()
        self._check_duplicates()

    def _check_duplicates(self) -> None:
        found: dict[Key, LogDirectory] = {}
        for directory in self:
            for key in (*directory.logs, *directory.quarantined):
                other = found.setdefault(key, directory)
                if other is not directory:
                    raise DirectoryMismatch(
                        f"the partition {key[0]}-{key[1]} is in both {other.path} and {directory.path}: "
                        f"move one of the two directories away, that of the disk which failed last"
                    )

    def _failed(self, directory: LogDirectory, error: Exception) -> None:
        self._first_error = self._first_error or error
        directory.health.fail(error if isinstance(error, OSError) else OSError(EIO, str(error)))

    def _need_one(self) -> None:
        if self.is_gone:
            assert self._first_error is not None
            raise self._first_error

    # Partitions

    def get(self, topic: str, partition: int) -> Log | None:
        """The partition's log, None if it is in no directory that is online (or is quarantined)."""
        for directory in self.all:
            found = directory.logs.get((topic, partition))
            if found is not None and directory.offline is None:
                return found
        return None

    def directory_of(self, one: Log) -> LogDirectory:
        """Where a log lies."""
        return next(directory for directory in self.all if directory.health is one.health)

    def create(
        self,
        topic: str,
        partition: int,
        topic_id: bytes,
        config: TopicConfig,
        now_ms: int,
        *,
        is_new: bool = True,
    ) -> Log:
        """The log of a partition that is in no directory. ``is_new``: it was never there before.

        Raises ``KafkaError``: KAFKA_STORAGE_ERROR, also where it may lie in a directory that is offline.
        """
        key = topic, partition
        if not is_new and self.some_offline:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{topic}-{partition} may lie in a log directory that is offline",
            )
        for directory in self:  # a damaged partition is not made anew beside itself
            if key in directory.quarantined:
                return directory.create(topic, partition, topic_id, config, now_ms)
        failed: KafkaError | None = None
        for directory in self._choices(key):
            try:
                made = directory.create(topic, partition, topic_id, config, now_ms)
            except KafkaError as error:
                failed = failed or error
                continue
            self.preferred.pop(key, None)
            return made
        raise failed or KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "no log directory is online")

    def _choices(self, key: Key) -> list[LogDirectory]:
        preferred = self.preferred.get(key)
        if preferred is not None:
            return [preferred]
        return sorted(self, key=lambda directory: directory.partition_count)

    def delete(self, topic: str, partition: int, now_ms: int) -> None:
        """Take the partition out of service and have its files removed later. See ``LogDirectory``.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR), also where it may lie in a directory that is offline.
        """
        key = topic, partition
        self.preferred.pop(key, None)
        for directory in self:
            if key in directory.logs or key in directory.quarantined:
                directory.delete(topic, partition, now_ms)
                return
        if self.some_offline:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{topic}-{partition} may lie in a log directory that is offline",
            )

    def set_aside(self, topic: str, partition: int) -> None:
        """Take a log out of service and keep its files. See ``LogDirectory.set_aside``."""
        for directory in self:
            directory.set_aside(topic, partition)

    # Upkeep

    def remove_expired_producers(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers that were silent for ``producer.id.expiration.ms``; returns how many."""
        return sum(directory.remove_expired_producers(now_ms, expiration_ms) for directory in self)

    def want_overdue_flushes(self, now_ms: int) -> None:
        """Ask for a flush of every dirty log that has waited ``flush.ms`` for one."""
        for directory in self:
            directory.want_overdue_flushes(now_ms)

    def close(self, now_ms: int, *, clean: bool = True, broker_epoch: int = -1) -> None:
        """Close every directory; see ``LogDirectory.close``. Never raises for one that failed."""
        for directory in self.all:
            directory.close(now_ms, clean=clean, broker_epoch=broker_epoch)
