"""Group commit: one sync of a log's file serves everybody whose records are in it.

The rules kept here (DESIGN, decisions 5 and 11):

- A log has at most one flush under way. What is appended meanwhile waits for the next one, together.
- At most ``parallelism`` threads sync, each a few logs at a time; where very many logs are dirty, one
  ``syncfs`` serves them all. A log of which only one file is to be synced, as a rule, is left to a thread of the
  kernel's where the system lets us (``kernel_syncs``): who waits alone waits for no thread of ours.
- A failed sync is final: the log directory goes offline, ``on_failure`` is called once, and nothing is
  synced there again. A flush that found no room before it synced is tried again a little later.

The loop calls ``request`` for every append under ``durability=disk``; it costs a flag. Nothing else of
the log runs in the threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from errno import EMFILE, ENFILE, ENOENT
from functools import partial
from time import monotonic

from ottla.clock import Clock, SystemClock
from ottla.errors import KafkaError
from ottla.log.disk import Disk
from ottla.log.flush import Flush
from ottla.log.kernel_syncs import KernelSyncs
from ottla.log.log import Log
from ottla.logs import logger
from ottla.loops import rest_of
from ottla.metering import Histogram

log = logger(__name__)

PARALLELISM = 4
SYNC_FILE_SYSTEM_FROM = 256
"""As many logs dirty at once are synced with the whole file system."""
LONG_QUEUE = 1 << 62

_LOGS_PER_JOB_MAX = 16
_RETRY_S = 0.5
_RETRY_SOON_S = 0.02
_IDLE, _QUEUED, _RUNNING, _AGAIN = 0, 1, 2, 3


class Durability(Enum):
    """What a replica's acknowledgement means."""

    DISK = "disk"
    """The records are synced: a power loss does not take them back."""
    OS = "os"
    """The records are in the page cache: they survive the process, as in Apache Kafka."""


class Flusher:
    """Syncs the logs that ask for it. One for all log directories of a broker."""

    def __init__(
        self,
        disk: Disk,
        *,
        durability: Durability = Durability.DISK,
        parallelism: int = PARALLELISM,
        sync_file_system_from: int = SYNC_FILE_SYSTEM_FROM,
        on_failure: Callable[[str, OSError], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``on_failure(directory, error)`` is told of the first failed sync of a log directory."""
        self.durability = durability
        self._disk = disk
        self._on_failure = on_failure
        self._clock = clock if clock is not None else SystemClock()
        self._parallelism = parallelism
        self._together_from = sync_file_system_from if disk.can_sync_file_systems else LONG_QUEUE
        self._queue: deque[Log] = deque()
        self._waiting: dict[Log, list[tuple[int, asyncio.Future[None]]]] = {}
        self._jobs = 0
        self._idle: asyncio.Event | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._kernel: KernelSyncs | None = None
        self._kernel_asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest: Callable[[], bool]
        self._scheduled = False
        self._alone = False
        self._closed = False
        self.latency = Histogram()
        """How long the syncs took, one for all logs of a job."""

    def attach(self, log: Log) -> None:
        """Serve the flushes that ``log`` itself asks for (rolls, ``flush.messages``)."""
        log.on_flush_wanted = self.request

    def appended(self, log: Log, *, alone: bool = False) -> None:
        """Records were appended: request a flush if durability demands one.

        ``alone``: all that is to be flushed with them is written by now, as far as who calls knows.
        """
        if self.durability is Durability.DISK:
            self.request(log, alone=alone)

    def acknowledged_end_offset(self, log: Log) -> int:
        """Up to where (exclusive) this replica may acknowledge the log's records."""
        if self.durability is Durability.DISK:
            return log.flushed_end_offset
        return log.log_end_offset

    def request(self, log: Log, *, alone: bool = False) -> None:
        """Have all that is in ``log`` now synced soon; its ``on_flushed`` is called then.

        Cheap while a request for the log is waiting already. ``alone``: begin at once where the loop has nothing
        more to do in this turn, for whose appends it could be worth waiting.
        """
        state = log.flushing
        if state == _IDLE:
            log.flushing = _QUEUED
            self._queue.append(log)
            if not self._scheduled:
                self._schedule(alone)
        elif state == _RUNNING:
            log.flushing = _AGAIN

    async def flush(self, log: Log) -> None:
        """Wait until all that is in ``log`` now is synced.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR) if that cannot be any more.
        """
        log.check_usable()
        if log.is_dirty:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(log, []).append((log.log_end_offset, done))
            self.request(log)
            await done

    async def close(self) -> None:
        """Wait for what is queued and under way, then stop. Later requests do nothing."""
        while self._queue or self._jobs:
            self._idle = asyncio.Event()
            self._start_jobs()
            if self._jobs:
                await self._idle.wait()
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None
            await asyncio.sleep(0)  # what a thread has handed over is taken, and closed
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def _schedule(self, alone: bool) -> None:
        """Start jobs once the loop has run what is ready: more appends may join."""
        if self._closed:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._rest = rest_of(self._loop)
        if alone and not self._rest():
            self._start_jobs()
            return
        self._scheduled = True
        self._loop.call_soon(self._start_jobs)

    def _start_jobs(self) -> None:
        self._scheduled = False
        while self._queue and self._jobs < self._parallelism and not self._alone:
            together = len(self._queue) >= self._together_from
            begun = self._begin(self._take(together), together)
            if begun:
                self._run(begun, together)

    def _take(self, together: bool) -> list[Log]:
        """The logs for the next job: a fair share of the queue, or all of it for one syncfs."""
        waiting = len(self._queue)
        count = min(max(waiting // self._parallelism, 1), _LOGS_PER_JOB_MAX)
        if together:
            count = waiting
        return [self._queue.popleft() for _ in range(count)]

    def _begin(self, logs: list[Log], together: bool) -> list[tuple[Log, Flush]]:
        begun = []
        again = self.durability is Durability.DISK and not together
        for one in logs:
            one.flushing = _IDLE
            try:
                flush = one.begin_flush(with_files=not together, again=again)
            except KafkaError as error:
                if one.unusable is None and one.health.failure is None:
                    self._put_off(one, error)  # no descriptor was left
                else:
                    self._answer(one, error)
                continue
            if flush is None:
                self._answer(one, None)
            else:
                one.flushing = _RUNNING
                begun.append((one, flush))
        return begun

    def _run(self, begun: list[tuple[Log, Flush]], together: bool) -> None:
        loop = self._loop
        assert loop is not None
        self._jobs += 1
        if self._by_kernel(begun):
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._parallelism, "ottla-flush")
        self._alone = together
        try:
            self._executor.submit(self._work, loop, begun, together, monotonic())
        except RuntimeError as error:  # no thread can be started
            if not self._executor._threads:  # else one of those that there are does it
                self._not_run(begun, error)

    def _not_run(self, begun: list[tuple[Log, Flush]], error: RuntimeError) -> None:
        """There is no thread at all: try again a little later, with a queue in which this job is not."""
        self._executor = None
        self._jobs -= 1
        self._alone = False
        for one, flush in begun:
            one.flushing = _IDLE
            one.abandon_flush(flush)
            self._put_off(one, error)

    def _prepare_kernel(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread, once."""
        try:
            kernel = KernelSyncs(self._parallelism)
        except OSError:  # threads do it here
            return
        try:
            loop.call_soon_threadsafe(self._take_kernel, loop, kernel)
        except RuntimeError:  # the loop was closed without us
            kernel.close()

    def _take_kernel(self, loop: asyncio.AbstractEventLoop, kernel: KernelSyncs) -> None:
        if self._closed:
            kernel.close()
            return
        try:
            kernel.attach(loop)
        except NotImplementedError:
            kernel.close()
        else:
            self._kernel = kernel

    def _by_kernel(self, begun: list[tuple[Log, Flush]]) -> bool:
        """Whether the job is with the kernel: it is the sync of one file, and nothing else."""
        if self._kernel is None or len(begun) > 1 or not self._disk.syncs_by_fdatasync:
            return False
        flush = begun[0][1]
        file = flush.lone_file()
        if file is None:
            return False
        done = partial(self._synced, begun, monotonic())
        if not self._kernel.sync(file.pinned_descriptor(), done):
            return False
        flush.syncing = True
        return True

    def _synced(
        self, begun: list[tuple[Log, Flush]], started_s: float, error: OSError | None
    ) -> None:
        self._job_done(begun, started_s, [error])

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        begun: list[tuple[Log, Flush]],
        together: bool,
        started_s: float,
    ) -> None:
        """In a thread: run the flushes, and tell the loop what came of them, by the shortest way."""
        outcomes: list[OSError | None] | BaseException
        run = run_together if together else run_each
        try:
            outcomes = run(self._disk, [flush for _, flush in begun])
        except BaseException as error:
            outcomes = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._job_done, begun, started_s, outcomes)

    def _job_done(
        self,
        begun: list[tuple[Log, Flush]],
        started_s: float,
        outcomes: list[OSError | None] | BaseException,
    ) -> None:
        self.latency.observe(monotonic() - started_s)
        self._jobs -= 1
        self._alone = False
        try:
            if isinstance(outcomes, BaseException):
                raise outcomes  # ours to mend: the loop logs it
            now_ms = self._clock.now_ms()
            for (one, flush), error in zip(begun, outcomes, strict=True):
                self._finish(one, flush, error, now_ms)
        finally:
            if self._queue:
                self._start_jobs()
            if not self._jobs and self._idle is not None:
                self._idle.set()
        if not self._kernel_asked:
            self._ask_for_kernel()

    def _ask_for_kernel(self) -> None:
        """After the first sync: who starts waits for that one."""
        self._kernel_asked = True
        loop, executor = self._loop, self._executor
        if loop is not None and executor is not None and self._disk.syncs_by_fdatasync:
            with suppress(RuntimeError):  # no further thread, or it is being closed: ours do it
                executor.submit(self._prepare_kernel, loop)

    def _finish(self, one: Log, flush: Flush, error: OSError | None, now_ms: int) -> None:
        again = one.flushing == _AGAIN
        one.flushing = _IDLE
        if error is None:
            try:
                one.complete_flush(flush, now_ms)
            except Exception as failed:
                log.error("flush callback failed", error=failed, directory=one.directory)
            self._answer(one, None)
            if again:
                self.request(one)
            return
        one.abandon_flush(flush)
        if flush.is_harmless(error):
            self._put_off(one, error)
            return
        if one.unusable is None or error.errno != ENOENT:  # else it was deleted meanwhile
            self._fail(one, error)
        self._answer(one, one.health.offline_error())

    def _put_off(self, one: Log, error: Exception) -> None:
        """Try again a little later: nothing was synced, so nothing is lost.

        Where it was a descriptor that lacked, files that are open without need give theirs up.
        """
        lacks_descriptor = isinstance(error, OSError) and error.errno in (EMFILE, ENFILE)
        made_room = lacks_descriptor and self._disk.pool.make_room()
        log.warning("flush put off", directory=one.directory, reason=str(error))
        if self._loop is not None and not self._closed:
            self._loop.call_later(_RETRY_SOON_S if made_room else _RETRY_S, self.request, one)

    def _answer(self, one: Log, error: KafkaError | None) -> None:
        """Tell who waits for the log: all of them that it failed, or those that it has come so far."""
        waiting = self._waiting.pop(one, None)
        if waiting is None:
            return
        left = []
        for end_offset, done in waiting:
            if done.done():
                continue
            if error is not None:
                done.set_exception(error)
            elif one.flushed_end_offset >= end_offset or not one.is_dirty:
                done.set_result(None)
            else:
                left.append((end_offset, done))
        if left:
            self._waiting[one] = left

    def _fail(self, one: Log, error: OSError) -> None:
        if one.health.failure is None:
            one.health.fail(error)
            if self._on_failure is not None:
                self._on_failure(one.health.path, error)


def flush_here(disk: Disk, logs: Iterable[Log], now_ms: int, *, or_later: bool = False) -> None:
    """Make all that is in the logs durable, here and now: for a start and a stop. Raises ``OSError``.

    Those that are out of service are left as they are. ``or_later``: a lack of room is no failure; what finds
    none stays unflushed.
    """
    dirty = [one for one in logs if one.unusable is None and one.is_dirty]
    together = len(dirty) >= SYNC_FILE_SYSTEM_FROM and disk.can_sync_file_systems
    at_once = len(dirty) if together else _LOGS_PER_JOB_MAX
    for start in range(0, len(dirty), at_once or 1):
        flushes: list[tuple[Log, Flush]] = []
        for one in dirty[start : start + at_once]:
            flush = one.begin_flush(with_files=not together)
            if flush is not None:
                flushes.append((one, flush))
        run = run_together if together else run_each
        outcomes = run(disk, [flush for _, flush in flushes])
        failed: OSError | None = None
        for (one, flush), error in zip(flushes, outcomes, strict=True):
            if error is None:
                one.complete_flush(flush, now_ms)
                continue
            one.abandon_flush(flush)
            if not (or_later and flush.is_harmless(error)):
                failed = failed or error
        if failed is not None:
            raise failed


def run_each(disk: Disk, flushes: list[Flush]) -> list[OSError | None]:
    """Run flushes here and now, one after the other; for each None or why it failed."""
    outcomes: list[OSError | None] = []
    for flush in flushes:
        try:
            flush.run()
        except OSError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)
    return outcomes


def run_together(disk: Disk, flushes: list[Flush]) -> list[OSError | None]:
    """Run flushes without files: sync each log directory's file system once for all.

    Twice where leader epochs are renamed into place.
    """
    outcomes: list[OSError | None] = [None] * len(flushes)
    _step(flushes, outcomes, Flush.write_epochs)
    if any(flush.epochs is not None for flush in flushes):
        _sync_file_systems(disk, flushes, outcomes)
        _step(flushes, outcomes, Flush.publish_epochs)
    _sync_file_systems(disk, flushes, outcomes)
    return outcomes


def _step(
    flushes: list[Flush], outcomes: list[OSError | None], step: Callable[[Flush], object]
) -> None:
    """Take a step of every flush that has not failed yet."""
    for number, flush in enumerate(flushes):
        if outcomes[number] is None:
            try:
                step(flush)
            except OSError as error:
                outcomes[number] = error


def _sync_file_systems(disk: Disk, flushes: list[Flush], outcomes: list[OSError | None]) -> None:
    synced: dict[str, OSError | None] = {}
    for number, flush in enumerate(flushes):
        if outcomes[number] is not None:
            continue
        flush.syncing = True
        if flush.parent not in synced:
            try:
                disk.sync_file_system(flush.parent)
                synced[flush.parent] = None
            except OSError as error:
                synced[flush.parent] = error
        outcomes[number] = synced[flush.parent]
