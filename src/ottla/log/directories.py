"""The log directories of one broker: which partition lies where, and what is left when one of them fails.

The rules kept here (``LogManager``, KIP-112, KIP-113):

- A directory that cannot be opened, read or loaded is offline, and the others work; without any the broker
  does not start. One that another process has open, or that another broker or cluster owns, is no failure of a
  disk but a mistake, and ends the start.
- A new partition goes to the directory that was asked for (AlterReplicaLogDirs), or to the one with the
  fewest partitions. While a directory is offline nothing is made anew that may lie in there.
- A partition lies in one directory. In two it is an error, unless the end of a move was cut short: then the
  longer of the two is kept, the moved one where they are equal. See ``ottla.log.future_log``. Where one of the
  two is damaged, both are left out, and the other partitions are served.
- The copy that a move left unfinished is worth nothing where its partition is here: it is removed, and
  ``moves_left`` says that the move is to begin again. Where it is not, the copy is left alone.

Opening, loading and closing block; the rest belongs to the loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from errno import EIO

from ottla.errors import ErrorCode, KafkaError
from ottla.log import names
from ottla.log.checkpoints import (
    CorruptCheckpoint,
    MetaProperties,
    decode_partition_metadata,
)
from ottla.log.directory import LogDirectory
from ottla.log.disk import Disk
from ottla.log.flusher import Flusher
from ottla.log.log import Log
from ottla.logs import logger
from ottla.settings.definitions import TopicConfig
from ottla.topic_ids import ZERO_ID

log = logger(__name__)

Key = tuple[str, int]

PREFERRED_MAX = 10_000
"""So many partitions that are not here yet may have a directory chosen for them."""


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
        self.moves_left: dict[Key, LogDirectory] = {}
        """Where partitions were being moved to when the last life ended."""
        self.short: dict[Key, int] = {}
        """Up to where partitions were synced that lack some of it, and may be counted on: see ``short_logs``."""
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

    @property
    def may_have_lost(self) -> bool:
        """Whether a directory may have lost what was acknowledged; see ``last_life``."""
        return any(directory.life.may_have_lost for directory in self)

    def suspect_new(self) -> None:
        """Take new directories for wiped ones, once they are loaded: the cluster may believe that records are in there."""
        for directory in self.all:
            directory.life.suspects_new = True

    def forget_loss(self) -> None:
        """The cluster has heard of it. Blocks; a directory that cannot write that down says it again next time."""
        for directory in self:
            try:
                directory.life.forget()
            except OSError as error:
                log.warning("last life not written", directory=directory.path, reason=str(error))

    def forget_short(self, keys: Collection[Key]) -> None:
        """Nobody counts on these partitions any more, as far as they are short. ``save_short`` writes it down."""
        for key in keys:
            self.short.pop(key, None)
        for directory in self:
            directory.short.forget(keys)

    def save_short(self) -> None:
        """Write down which partitions are short. Blocks; where that fails, the next start finds them short again."""
        for directory in self:
            try:
                directory.short.save()
            except OSError as error:
                log.warning("short logs not noted", directory=directory.path, reason=str(error))

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
        self._settle_duplicates(now_ms)
        self._settle_unfinished()
        self._settle_short()

    def _settle_duplicates(self, now_ms: int) -> None:
        found: dict[Key, LogDirectory] = {}
        if self.some_offline:
            self._leave_out_half_moved(now_ms)
        for directory in self:
            for key in {**directory.logs, **directory.quarantined}:
                other = found.setdefault(key, directory)
                if other is directory:
                    continue
                if key in other.quarantined or key in directory.quarantined:
                    self._leave_out_both(key, (other, directory), now_ms)
                else:
                    found[key] = self._keep_one(key, other, directory, now_ms)

    def _leave_out_both(
        self, key: Key, both: tuple[LogDirectory, LogDirectory], now_ms: int
    ) -> None:
        """One of a partition's two logs is damaged: which one counts is for somebody to say who has looked."""
        for directory in both:
            one = directory.logs.get(key)
            if one is not None:
                why = "it is in another log directory too, and damaged there"
                log.error("partition left out", directory=one.directory, reason=why)
                directory.leave_out(one, why)
                one.close(now_ms, clean=False)

    def _leave_out_half_moved(self, now_ms: int) -> None:
        """The half of a move whose other half is offline now may lack the last records: they count."""
        offline = {directory.path for directory in self.all if directory.offline is not None}
        for directory in self:
            for one in list(directory.logs.values()):
                other = self._other_half(one)
                if other in offline:
                    directory.leave_out(one, f"its move from or to {other} was not finished")
                    one.close(now_ms, clean=False)

    def _other_half(self, one: Log) -> str | None:
        """The log directory that the log was coming from, or going to, when a life ended; None if none."""
        for name in (names.MOVED, names.MOVING):
            try:
                mark = self.disk.read_file(f"{one.directory}/{name}", 1 << 16)
            except (OSError, ValueError):
                continue
            return os.path.dirname(mark.decode(errors="replace").strip())
        return None

    def _keep_one(
        self, key: Key, first: LogDirectory, second: LogDirectory, now_ms: int
    ) -> LogDirectory:
        """Of two logs of a partition, the one to keep where a move's end was cut short; its directory."""
        one, two = first.logs.get(key), second.logs.get(key)
        marked = [
            log
            for log in (one, two)
            if log is not None and self.disk.exists(f"{log.directory}/{names.MOVED}")
        ]
        if one is None or two is None or len(marked) != 1 or one.topic_id != two.topic_id:
            raise DirectoryMismatch(
                f"the partition {key[0]}-{key[1]} is in both {first.path} and {second.path}: "
                f"move one of the two directories away, that of the disk which failed last"
            )
        (moved,) = marked
        source = two if moved is one else one
        kept = moved if moved.log_end_offset >= source.log_end_offset else source
        dropped = source if kept is moved else moved
        start = min(max(one.log_start_offset, two.log_start_offset), kept.log_end_offset)
        kept.increment_log_start_offset(start, kept.log_end_offset)
        log.warning(
            "the end of a move is made good", kept=kept.directory, dropped=dropped.directory
        )
        if kept is source:
            self.moves_left[key] = self.directory_of(moved)
        self.directory_of(dropped).delete(*key, now_ms)
        return self.directory_of(kept)

    def _settle_unfinished(self) -> None:
        for directory in self:
            for key, path in list(directory.unfinished.items()):
                if self.get(*key) is not None:
                    del directory.unfinished[key]
                    directory.trash.put(path, 0)
                    self.moves_left[key] = directory

    def _settle_short(self) -> None:
        """What has moved into another directory is gone from its old one, and lacks nothing.

        What may lie in a directory that is offline, or of which a copy is left, is not served: it is still noted.
        """
        left = {
            key for directory in self for key in (*directory.quarantined, *directory.unfinished)
        }
        for directory in self:
            moved: list[Key] = []
            for key, synced_to in directory.short.synced_to.items():
                found = self.get(*key)
                if found is not None and found.log_end_offset >= synced_to:
                    moved.append(key)
                elif found is not None or not (self.some_offline or key in left):
                    self.short[key] = max(synced_to, self.short.get(key, 0))
            directory.short.forget(moved)

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

    def checkpointed_high_watermark(self, one: Log) -> int:
        """A log's high watermark as an earlier life wrote it down; 0 if it did not."""
        return self.directory_of(one).high_watermarks.get((one.topic, one.partition), 0)

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
        self._check_unfinished(key, topic_id)
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

    def _check_unfinished(self, key: Key, topic_id: bytes) -> None:
        """Make no partition anew of which a copy is left, while the log that it was copied from is gone.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        for directory in self:
            path = directory.unfinished.get(key)
            if path is None:
                continue
            try:
                found = self.disk.read_file(f"{path}/{names.PARTITION_METADATA}", 1024)
                same = decode_partition_metadata(found) in (ZERO_ID, topic_id)
            except (OSError, ValueError):
                same = True
            if same:
                raise KafkaError(
                    ErrorCode.KAFKA_STORAGE_ERROR,
                    f"all that is left of {key[0]}-{key[1]} is the unfinished copy {path}: "
                    "the log directory that it was copied from is missing",
                )
            del directory.unfinished[key]
            directory.trash.put(path, 0)

    def replace(self, old: Log, new: Log) -> None:
        """A partition goes on with ``new``, its copy in another directory."""
        source = self.directory_of(old)
        promised = source.leave(old)
        start = max(promised, old.log_start_offset)
        if start:
            source.keep_start(old, start)
        directory = self.directory_of(new)
        directory.enter(new)
        if promised > new.log_start_offset:
            directory.promise_log_start(new, promised)

    def prefer(self, topic: str, partition: int, directory: LogDirectory) -> None:
        """Make the partition there, once it is to be made. What was said of many others is forgotten."""
        self.preferred.pop((topic, partition), None)
        while len(self.preferred) >= PREFERRED_MAX:
            del self.preferred[next(iter(self.preferred))]
        self.preferred[topic, partition] = directory

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
        self.forget_short([key])
        holding = [one for one in self if key in one.logs or key in one.quarantined]
        for directory in holding:  # two where one of them is damaged
            directory.delete(topic, partition, now_ms)
        if not holding and self.some_offline:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{topic}-{partition} may lie in a log directory that is offline",
            )

    def set_aside(self, topic: str, partition: int) -> None:
        """Take a log out of service and keep its files. See ``LogDirectory.set_aside``."""
        self.forget_short([(topic, partition)])
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

    def close(self, now_ms: int, *, clean: bool = True, broker_epoch: int = -1) -> list[str]:
        """Close every directory; the paths of those that were not closed cleanly. See ``LogDirectory.close``."""
        return [
            directory.path
            for directory in self.all
            if not directory.close(now_ms, clean=clean, broker_epoch=broker_epoch)
        ]
