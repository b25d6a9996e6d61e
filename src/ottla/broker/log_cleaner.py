"""The log cleaner: compacts the dirtiest logs, one after the other, with worker processes.

Rules:
- The loop chooses and swaps; reading, deciding and writing is the worker's (``ottla.log.compaction``).
- One log's trouble is its own: it is left out (``uncleanable``) and told of, and the others go on. A damaged
  batch quarantines its partition, a failing disk takes its directory offline.
- A worker that dies is told of and tried again, with the next look; a log at which it dies ``DEATHS_MAX`` times in a
  row is left out.
- How far a log is clean is written down only after the swaps that make it so are durable.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from ottla.errors import KafkaError
from ottla.log.compaction.job import (
    CORRUPT,
    DISK,
    GONE,
    CleanedGroup,
    CleaningDone,
    CleaningFailed,
    CleaningJob,
    CleaningLimits,
    cleaned_files,
    cleaned_path,
)
from ottla.log.compaction.plan import Dirtiness, dirtiness_of, job_for
from ottla.log.compaction.process import CleanerProcess, WorkerDied
from ottla.log.trash import RETRY_MS as TRASH_RETRY_MS
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.clock import Clock
    from ottla.log.directory import LogDirectory
    from ottla.log.log import Log
    from ottla.replication.partition import Partition
    from ottla.settings.broker_config import BrokerConfig

log = logger(__name__)

DEATHS_MAX = 3
_LOOKED_AT_AT_ONCE = 64


class CleanerFigures:
    """What the cleaner has done since the start, and how things stood when it last looked.

    Bytes and records add up over all cleanings. ``dirtiest_ratio`` is the largest of all compacted logs' (0 to 1),
    ``overdue_ms`` how far the most overdue one is beyond ``max.compaction.lag.ms``; ``last_look_ms`` is a time.
    """

    def __init__(self) -> None:
        self.cleanings = 0
        self.failures = 0
        self.worker_deaths = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.records_read = 0
        self.records_kept = 0
        self.keyless_records = 0
        self.dirtiest_ratio = 0.0
        self.overdue_ms = 0
        self.last_look_ms = 0
        self.last_duration_ms = 0
        self.map_utilization = 0.0
        self.uncleanable_partitions = 0


class LogCleaner:
    """The cleaner of one broker. ``look`` is called from time to time; ``figures`` is for whoever shows them."""

    def __init__(
        self,
        partitions: Iterable[Partition],
        directory_of: Callable[[Log], LogDirectory],
        config: Callable[[], BrokerConfig],
        clock: Clock,
    ) -> None:
        """``partitions`` is iterated anew each time; ``config()`` gives the broker's settings of now."""
        self._partitions = partitions
        self._directory_of = directory_of
        self._config = config
        self._clock = clock
        self._workers: list[CleanerProcess] = []
        self._tasks: dict[CleanerProcess, asyncio.Task[None]] = {}
        self._in_progress: set[Log] = set()
        self._uncleanable: dict[Log, str] = {}
        self._deaths: dict[Log, int] = {}
        self._choosing = asyncio.Lock()
        self._limits: CleaningLimits | None = None
        self._is_closed = False
        self.figures = CleanerFigures()

    @property
    def worker_pids(self) -> list[int]:
        """The processes there are."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    @property
    def uncleanable(self) -> dict[tuple[str, int], str]:
        """Why which partitions are left out, until the next start or a change of the cleaner's settings."""
        return {(one.topic, one.partition): why for one, why in self._uncleanable.items()}

    def look(self) -> None:
        """Have every log cleaned that is due, the dirtiest first, as many at a time as there are threads.

        To be called from time to time: who is at work goes on, who has nothing to do looks again.
        """
        config = self._config()
        if not config.log_cleaner_enable or not config.log_cleaner_threads or self._is_closed:
            return
        threads = config.log_cleaner_threads
        limits = CleaningLimits(
            config.log_cleaner_dedupe_buffer_size // threads,
            config.log_cleaner_io_buffer_load_factor,
            config.log_cleaner_io_buffer_size // threads // 2,
            config.log_cleaner_io_max_bytes_per_second,
        )
        if limits != self._limits:
            self._limits = limits
            self._uncleanable.clear()
            for worker in self._workers:
                worker.throttle(limits.bytes_per_second)
        while len(self._workers) < threads:
            self._workers.append(CleanerProcess())
        for worker in self._workers[:threads]:
            task = self._tasks.get(worker)
            if task is None or task.done():
                self._tasks[worker] = asyncio.create_task(self._work(worker))

    async def close(self) -> None:
        """End the workers, and wait until nothing is under way."""
        self._is_closed = True
        for worker in self._workers:
            await worker.close()
        await asyncio.gather(*self._tasks.values())

    async def _work(self, worker: CleanerProcess) -> None:
        try:
            await self._clean_all_due(worker)
        except (KafkaError, OSError) as error:
            log.warning("the log cleaner failed", reason=str(error))
        except Exception as error:
            log.error("the log cleaner failed", error=error)

    # Choosing

    async def _clean_all_due(self, worker: CleanerProcess) -> None:
        while not self._is_closed:
            async with self._choosing:
                chosen = await self._choose()
            if chosen is None:
                return
            one, dirtiness = chosen
            assert self._limits is not None
            job = job_for(
                one,
                first_dirty_offset=dirtiness.first_dirty_offset,
                end_offset=dirtiness.end_offset,
                token=os.urandom(4).hex(),
                limits=self._limits,
                now_ms=self._clock.now_ms(),
            )
            try:
                if not await self._clean(worker, one, job):
                    return
            finally:
                self._in_progress.discard(one)

    async def _choose(self) -> tuple[Log, Dirtiness] | None:
        """The dirtiest log that is due and that nobody is at; it is in progress from here on."""
        now_ms = self._clock.now_ms()
        chosen: tuple[Log, Dirtiness] | None = None
        figures = self.figures
        figures.last_look_ms, figures.dirtiest_ratio, figures.overdue_ms = now_ms, 0.0, 0
        known = set()
        for number, partition in enumerate(self._partitions):
            if number % _LOOKED_AT_AT_ONCE == _LOOKED_AT_AT_ONCE - 1:
                await asyncio.sleep(0)
            one = partition.log
            if not one.rules.compact:
                continue
            known.add(one)
            dirtiness = self._look_at(partition, now_ms)
            if dirtiness is None:
                continue
            figures.dirtiest_ratio = max(figures.dirtiest_ratio, dirtiness.ratio)
            figures.overdue_ms = max(figures.overdue_ms, dirtiness.overdue_ms)
            is_due = dirtiness.is_due(one.config.min_cleanable_dirty_ratio)
            if is_due and (chosen is None or dirtiness.ratio > chosen[1].ratio):
                chosen = one, dirtiness
        self._forget_all_but(known)
        if chosen is None or chosen[0].unusable is not None:
            return None
        self._in_progress.add(chosen[0])
        return chosen

    def _look_at(self, partition: Partition, now_ms: int) -> Dirtiness | None:
        one = partition.log
        if len(one.segments) < 2 or one in self._in_progress or one in self._uncleanable:
            return None
        if one.unusable is not None or one.health.failure is not None or one.moving:
            return None
        limit = min(partition.last_stable_offset, one.recovery_point)
        undecided = one.producers.first_undecided_offset
        try:
            return dirtiness_of(one, limit if undecided is None else min(limit, undecided), now_ms)
        except OSError as error:
            one.health.failed_operation(f"look at {one.directory} failed", error)
        except KafkaError as error:
            self._leave_out(one, str(error))
        return None

    def _forget_all_but(self, known: set[Log]) -> None:
        self._deaths = {one: count for one, count in self._deaths.items() if one in known}
        self._uncleanable = {one: why for one, why in self._uncleanable.items() if one in known}
        self.figures.uncleanable_partitions = len(self._uncleanable)

    def _leave_out(self, one: Log, reason: str) -> None:
        self._uncleanable[one] = reason
        self.figures.uncleanable_partitions = len(self._uncleanable)
        log.error("log cannot be compacted and is left out", directory=one.directory, reason=reason)

    # Cleaning

    async def _clean(self, worker: CleanerProcess, one: Log, job: CleaningJob) -> bool:
        """Clean a log; whether to go on with others at once."""
        began = self._clock.monotonic()
        generation = one.generation
        done: CleaningDone | None = None
        try:
            async with aclosing(worker.clean(job)) as steps:
                async for step in steps:
                    if isinstance(step, CleaningDone):
                        done = step
                    elif not await self._take_over(one, step):
                        log.info("cleaning ended, its segments are gone", directory=one.directory)
                        break
        except CleaningFailed as failed:
            return self._failed(one, job, failed, generation)
        except WorkerDied as died:
            self._died(one, died)
            return False
        except OSError as error:  # no process to be had
            log.warning("no worker for the log cleaner", reason=str(error))
            return False
        except KafkaError as error:
            self.figures.failures += 1
            log.warning("cleaning failed", directory=one.directory, reason=str(error))
            return False
        finally:
            if done is None:
                await self._remove(one, await asyncio.to_thread(self._leftovers, one, job.token))
        if done is None or one.unusable is not None or one.generation != generation:
            return done is not None
        self._deaths.pop(one, None)
        await self._note_done(one, done, job, self._clock.monotonic() - began)
        return True

    async def _take_over(self, one: Log, group: CleanedGroup) -> bool:
        """Swap a cleaned segment in; False if the cleaning has to end, as its segments are not there."""
        if not group.changed:
            return True
        if one.unusable is not None:
            return False
        swap = one.prepare_swap(group, self._clock.now_ms())
        if swap is None:
            at = one.directory, group.base_offset
            await self._remove(one, [cleaned_path(*at, s, group.token) for s in group.suffixes])
            return one.is_gone(group.replaced)
        if not await self._sync_names(one):
            return False
        if not one.exchange_segments(swap, self._clock.now_ms()):
            return False
        if not await self._sync_names(one):
            return False
        one.finish_swap(swap)
        one.want_flush()
        return True

    async def _sync_names(self, one: Log) -> bool:
        """Make the names in the log's directory durable; False if it is not there any more."""
        disk = self._directory_of(one).disk
        try:
            await asyncio.to_thread(disk.sync_directory, one.directory)
        except OSError as error:
            if one.unusable is not None:
                return False
            what = f"names in {one.directory} not synced"
            raise one.health.failed_operation(what, error) from error
        return one.unusable is None

    async def _note_done(
        self, one: Log, done: CleaningDone, job: CleaningJob, duration_s: float
    ) -> None:
        one.mark_clean(done.clean_end_offset)
        counts, figures = done.counts, self.figures
        figures.cleanings += 1
        figures.bytes_read += counts.bytes_read
        figures.bytes_written += counts.bytes_written
        figures.records_read += counts.records_read
        figures.records_kept += counts.records_kept
        figures.keyless_records += counts.keyless
        figures.map_utilization = counts.map_utilization
        figures.last_duration_ms = int(duration_s * 1000)
        log.info(
            "log compacted",
            directory=one.directory,
            first_dirty_offset=job.first_dirty_offset,
            clean_end_offset=done.clean_end_offset,
            records_read=counts.records_read,
            records_kept=counts.records_kept,
            bytes_read=counts.bytes_read,
            bytes_written=counts.bytes_written,
            duration_ms=figures.last_duration_ms,
        )
        if counts.keyless:
            log.warning(
                "records without a key dropped", directory=one.directory, count=counts.keyless
            )
        directory = self._directory_of(one)
        await asyncio.to_thread(directory.write_clean_ends, directory.clean_ends())

    # What can go wrong

    def _failed(self, one: Log, job: CleaningJob, failed: CleaningFailed, generation: int) -> bool:
        """Do about a failed cleaning what has to be done; whether others may go on."""
        bases = {segment.base_offset for segment in one.segments}
        changed = one.generation != generation or one.unusable is not None
        changed |= any(segment.base_offset not in bases for segment in job.segments[-1:])
        if changed:
            log.info("cleaning ended, the log has changed", directory=one.directory)
            return True
        self.figures.failures += 1
        if failed.kind == CORRUPT:
            one.quarantine(failed.reason)
        elif failed.kind == DISK:
            error = OSError(failed.errno, failed.reason)
            one.health.failed_operation(f"cleaning of {one.directory}", error)
            log.warning("cleaning failed", directory=one.directory, reason=failed.reason)
            return False
        elif failed.kind == GONE and one.is_gone([job.segments[0].base_offset]):
            log.info("cleaning ended, segments were deleted", directory=one.directory)
            return False
        else:
            self._leave_out(one, failed.reason)
        return True

    def _died(self, one: Log, died: WorkerDied) -> None:
        if self._is_closed:
            return
        self.figures.worker_deaths += 1
        self._deaths[one] = deaths = self._deaths.get(one, 0) + 1
        log.warning("the log cleaner's worker died", directory=one.directory, reason=str(died))
        if deaths >= DEATHS_MAX:
            self._leave_out(one, f"its worker died {deaths} times: {died}")

    async def _remove(self, one: Log, paths: list[str]) -> None:
        """Remove files of a cleaning that nobody has a place for; what can't be removed now goes later."""
        trash = self._directory_of(one).trash
        for path in await asyncio.to_thread(trash.remove, paths):
            trash.put(path, self._clock.now_ms() + TRASH_RETRY_MS)

    def _leftovers(self, one: Log, token: str) -> list[str]:
        """Off the loop: the files of a cleaning that ended early, where the log's directory is still there."""
        if one.unusable is None and one.health.failure is None:
            try:
                return cleaned_files(self._directory_of(one).disk, one.directory, token)
            except OSError as error:
                log.warning("files of a cleaning stay", directory=one.directory, reason=str(error))
        return []
