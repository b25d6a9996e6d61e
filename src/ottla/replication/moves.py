"""Replicas on their way from one log directory of this broker to another (AlterReplicaLogDirs, KIP-113).

Rules:
- The current log takes appends and reads until the copy has all of it; nobody waits for the copying.
- A request for another directory, or for the one where the partition lies, ends the move; so does the
  partition's deletion, and the failure of either directory. What was copied is removed then.
- Every batch is checked on its way. One that is damaged where it lies takes its partition out of service, as any
  damage does that is met; nothing of it is copied.
- A lack of room in the destination ends nothing: the copy is removed, and the move begins again later. So it is
  where the log is cut meanwhile, to agree with its leader's.
- A move that the broker's stop or a crash has cut short begins again with the next leadership.
- ``replica.alter.log.dirs.io.max.bytes.per.second`` bounds what all moves together copy.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from ottla.errors import KafkaError
from ottla.log import names
from ottla.log.copy_check import SourceDamaged, SourceFailed
from ottla.log.disk import NO_ROOM_ERRNOS
from ottla.log.future_log import LITTLE_BYTES, FutureLog
from ottla.logs import logger
from ottla.records.batch import UnsupportedMagic

if TYPE_CHECKING:
    from ottla.clock import Clock
    from ottla.log.directories import LogDirectories
    from ottla.log.directory import LogDirectory
    from ottla.log.log import Log
    from ottla.replication.partition import Partition

log = logger(__name__)

RETRY_S = 30.0
"""Pause before a move begins again that found no room."""
RETRY_CUT_S = 0.1
"""Pause before a move begins again whose log was cut."""

Key = tuple[str, int]
OffLoop = Callable[..., Awaitable[object]]


class _Ended(Exception):
    """Nobody wants the move any more."""


class _Cut(Exception):
    """The log was cut: what was copied may be wrong."""


class FutureReplica(NamedTuple):
    """A move as DescribeLogDirs tells of it: what is copied, and what is missing of the current log."""

    topic: str
    partition: int
    size_bytes: int
    offset_lag: int


class _Move:
    """One partition's move."""

    def __init__(self, partition: Partition, directory: LogDirectory) -> None:
        self.partition = partition
        self.directory = directory
        self.future: FutureLog | None = None
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def key(self) -> Key:
        return self.partition.topic, self.partition.index


class ReplicaMoves:
    """All moves of a broker; ``bytes_per_second`` is asked before each chunk."""

    def __init__(
        self,
        directories: LogDirectories,
        flush: Callable[[Log], Awaitable[None]],
        *,
        clock: Clock,
        bytes_per_second: Callable[[], int],
        off_loop: OffLoop = asyncio.to_thread,
    ) -> None:
        self._directories = directories
        self._flush = flush
        self._clock = clock
        self._bytes_per_second = bytes_per_second
        self._off_loop = off_loop
        self._moves: dict[Key, _Move] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(max(1, len(directories.all)))
        self._allowed_at = 0.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._moves)

    def start(self, partition: Partition, directory: LogDirectory) -> None:
        """Have the partition moved; nothing if it is on its way there, or lies there already.

        A move to elsewhere ends. In the latter case nothing else begins.
        """
        key = partition.topic, partition.index
        known = self._moves.get(key)
        if known is not None and known.partition is partition and known.directory is directory:
            return
        before = self._end(key)
        if self._closed or (before is None and partition.log.health is directory.health):
            return
        move = self._moves[key] = _Move(partition, directory)
        move.task = asyncio.get_running_loop().create_task(self._run(move, before))
        self._tasks.add(move.task)
        move.task.add_done_callback(self._tasks.discard)

    async def end(self, topic: str, index: int) -> None:
        """End the partition's move, if there is one, and wait until nothing is left of it."""
        task = self._end((topic, index))
        if task is not None:
            await asyncio.wait((task,))

    def directory_failed(self, path: str) -> None:
        """End the moves from and to a directory that is offline."""
        for move in list(self._moves.values()):
            if path in (move.directory.path, move.partition.log.health.path):
                self._end(move.key)

    def into(self, directory: LogDirectory) -> Iterator[FutureReplica]:
        """The replicas that are on their way into a directory."""
        for move in list(self._moves.values()):
            if move.directory is directory:
                current, future = move.partition.log, move.future
                end = future.end_offset if future is not None else current.log_start_offset
                yield FutureReplica(
                    *move.key,
                    future.size_bytes if future is not None else 0,
                    max(current.log_end_offset - end, 0),
                )

    async def close(self) -> None:
        """End all moves, to begin again with the broker's next life: what is copied stays till then."""
        self._closed = True
        for move in list(self._moves.values()):
            move.ended.set()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _end(self, key: Key) -> asyncio.Task[None] | None:
        move = self._moves.pop(key, None)
        if move is None:
            return None
        move.ended.set()
        return move.task

    # One move

    async def _run(self, move: _Move, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        try:
            while (pause_s := await self._try(move)) is not None:
                if not await self._pause(move, pause_s):
                    return
        except _Ended:
            return
        except (KafkaError, OSError) as error:
            log.error("a move has ended", partition=repr(move.partition), reason=str(error))
        except Exception as error:  # ours to mend; the current log is as it was
            log.error("a move has ended", partition=repr(move.partition), error=error)
        finally:
            if self._moves.get(move.key) is move:
                del self._moves[move.key]

    async def _try(self, move: _Move) -> float | None:
        """None where the move is done, else after how many seconds it is to begin again."""
        current = move.partition.log
        if current.health is move.directory.health:  # a move before this one came to its end
            return None
        async with self._turns:
            self._check(move)
            future = move.future = FutureLog(current, move.directory, os.urandom(16).hex())
            current.moving = True
            try:
                await self._copy(move, future)
                await self._change(move, future)
            except _Cut:
                log.info("a move begins again: the log was cut", partition=repr(move.partition))
                return RETRY_CUT_S
            except (KafkaError, OSError) as error:
                if isinstance(error, KafkaError) and self._was_cut(move, future):
                    return RETRY_CUT_S
                if isinstance(error, SourceDamaged):
                    current.quarantine(error.message or str(error))
                    move.partition.storage_failed()
                if not self._passes(move, future, error):
                    raise
                log.warning("a move begins again later", to=future.path, reason=str(error))
                return RETRY_S
            finally:
                current.moving = False
                move.future = None
                if not future.is_taken_over and not self._closed:
                    await self._discard(future)
        return None

    @staticmethod
    def _was_cut(move: _Move, future: FutureLog) -> bool:
        """Whether a failure is no more than the log's having been cut meanwhile."""
        return (
            future.is_stale
            and not future.is_taken_over
            and future.current.unusable is None
            and future.current.health.failure is None
            and move.directory.health.failure is None
        )

    @staticmethod
    def _passes(move: _Move, future: FutureLog, error: KafkaError | OSError) -> bool:
        """Whether there was only a lack of room; else the directory that failed goes offline."""
        current = future.current
        if future.is_taken_over or isinstance(error, UnsupportedMagic):
            return False
        if isinstance(error, OSError) and error.errno not in NO_ROOM_ERRNOS:
            failed = current if isinstance(error, SourceFailed) else move.directory
            failed.health.fail(error)
        return (
            current.unusable is None
            and current.health.failure is None
            and move.directory.health.failure is None
        )

    async def _copy(self, move: _Move, future: FutureLog) -> None:
        """Rounds of copying, until one has little to copy."""
        current = future.current
        if not current.is_on_disk:
            current.make_directory()
            await self._flush(current)
        await self._off_loop(future.create)
        little = False
        while not little:
            self._check(move)
            segments = future.next_round(self._clock.now_ms())
            little = sum(one.size_bytes for one in segments) <= LITTLE_BYTES
            for segment in segments:
                with closing(future.copy(segment)) as steps:
                    for step in steps:
                        copied = await self._off_loop(step)
                        assert isinstance(copied, int)
                        await self._throttle(move, copied)

    async def _change(self, move: _Move, future: FutureLog) -> None:
        """Let the copy be the log."""
        now_ms = self._clock.now_ms
        await self._off_loop(future.open_log, now_ms())
        await self._catch_up(move, future, may_end=True)
        assert future.log is not None
        await self._flush(future.log)
        self._check(move)
        future.close_files()
        await self._off_loop(future.publish)
        future.log.relocate(future.path)
        partition, old = move.partition, future.current
        await self._catch_up(move, future, may_end=False)
        self._check_cut(future)
        new = future.take_over(now_ms())
        self._directories.replace(old, new)
        partition.change_log(new)
        log.info("replica moved", partition=repr(partition), to=new.directory)
        try:
            await self._flush(new)
            await self._write_checkpoints(move.directory)
        except KafkaError:
            # The old one must not be found and led without the other, which has more.
            await self._remove(old, names.STRAY_DIRECTORY_SUFFIX)
            raise
        await self._remove(old, names.DELETE_DIRECTORY_SUFFIX)
        await self._off_loop(future.remove_mark)

    async def _catch_up(self, move: _Move, future: FutureLog, *, may_end: bool) -> None:
        while not future.catch_up(self._clock.now_ms()):
            await asyncio.sleep(0)
            if may_end:
                self._check(move)

    async def _remove(self, old: Log, suffix: str) -> None:
        """The old log's directory goes, and the checkpoints that name it."""
        source = self._directories.directory_of(old)
        path = old.retire(os.urandom(16).hex(), suffix)
        if path is not None:
            await self._off_loop(source.disk.sync_directory, source.path)
            if suffix == names.DELETE_DIRECTORY_SUFFIX:
                source.trash.put(path, self._clock.now_ms() + old.rules.file_delete_delay_ms)
        source.gone_for_good(old)
        if source.has_stale_checkpoints:
            await self._write_checkpoints(source)

    async def _write_checkpoints(self, directory: LogDirectory) -> None:
        await self._off_loop(directory.write_checkpoints, directory.take_checkpoints())

    async def _discard(self, future: FutureLog) -> None:
        try:
            path = await self._off_loop(future.discard)
        except OSError as error:
            log.warning("an unfinished copy is left", path=future.path, reason=str(error))
            # One that has the partition's name is for the next start to judge, like one that may be the last.
            if future.is_published or future.current.health.failure is not None:
                return
            path = future.path
        if isinstance(path, str):
            future.directory.trash.put(path, 0)

    def _check(self, move: _Move) -> None:
        """Raises ``_Ended`` if the move is not wanted any more, ``_Cut``; ``KafkaError`` if it cannot go on."""
        if move.ended.is_set():
            raise _Ended
        if move.future is not None:
            self._check_cut(move.future)
        move.directory.health.check()
        move.partition.log.check_usable()

    @staticmethod
    def _check_cut(future: FutureLog) -> None:
        if future.is_stale:
            raise _Cut

    async def _throttle(self, move: _Move, copied: int) -> None:
        """Wait so long that all moves together stay within their rate."""
        now = self._clock.monotonic()
        self._allowed_at = max(self._allowed_at, now) + copied / max(1, self._bytes_per_second())
        if self._allowed_at > now and not await self._pause(move, self._allowed_at - now):
            raise _Ended
        self._check(move)

    @staticmethod
    async def _pause(move: _Move, seconds: float) -> bool:
        """Wait; False if the move was ended meanwhile."""
        if seconds < 0.001:
            return not move.ended.is_set()
        try:
            async with asyncio.timeout(seconds):
                await move.ended.wait()
        except TimeoutError:
            return True
        return False
