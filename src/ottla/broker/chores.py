"""What this broker does from time to time: retention, checkpoints, expiry, the trash, quarantine, compaction.

Rules: each is a job of ``housekeeping`` in the interval that Kafka's settings give it. Until there is something
to clean, not even the cleaner is loaded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.broker.housekeeping import FLUSH_CHECK_INTERVAL_MS, TRASH_INTERVAL_MS, Housekeeping
from ottla.broker.quarantine import QUARANTINE_CHECK_INTERVAL_MS, take_out_of_service
from ottla.log.trash import RETRY_MS as TRASH_RETRY_MS

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from ottla.broker.broker import Broker
    from ottla.broker.log_cleaner import LogCleaner
    from ottla.log.disk import Disk

CLEANER_BACKOFF_MS_MIN = 20


class Chores:
    """The jobs of one broker."""

    def __init__(self, broker: Broker, disk: Disk) -> None:
        self._broker = broker
        self._disk = disk
        self._housekeeping = Housekeeping()
        self.cleaner: LogCleaner | None = None
        self._cleaner_is_closed = False

    def begin(self, exits: AsyncExitStack) -> None:
        """Do them from now on; ``exits`` ends them, those that are under way being finished first."""
        exits.push_async_callback(self._housekeeping.stop)
        config, every = self._broker.config, self._housekeeping.every
        first = config.log_initial_task_delay_ms
        every(config.log_retention_check_interval_ms, self._retain, first_after_ms=first)
        every(config.log_flush_offset_checkpoint_interval_ms, self._checkpoint)
        every(config.replica_high_watermark_checkpoint_interval_ms, self.checkpoint_marks)
        every(config.producer_id_expiration_check_interval_ms, self._expire_producers)
        every(FLUSH_CHECK_INTERVAL_MS, self._flush_by_time)
        every(TRASH_INTERVAL_MS, self._empty_trash)
        every(QUARANTINE_CHECK_INTERVAL_MS, self._quarantine)
        every(self._cleaner_backoff_ms, self.compact)
        every(max(1, config.replica_lag_time_max_ms // 2), self._broker.replicas.check_isrs)
        exits.push_async_callback(self._close_cleaner)

    async def _retain(self) -> None:
        await self._broker.replicas.apply_retention(self._broker.clock.now_ms())

    async def _checkpoint(self) -> None:
        for directory in self._broker.directories:
            await asyncio.to_thread(directory.write_checkpoints, directory.take_checkpoints())

    async def checkpoint_marks(self) -> None:
        """Write the high watermarks down. Raises ``KafkaError``."""
        marks = self._broker.replicas.high_watermarks()
        for directory in self._broker.directories:
            await asyncio.to_thread(directory.write_high_watermarks, marks.get(directory.path, {}))

    def _cleaner_backoff_ms(self) -> int:
        return max(self._broker.config.log_cleaner_backoff_ms, CLEANER_BACKOFF_MS_MIN)

    def compact(self) -> None:
        """Clean what is dirty."""
        if self._cleaner_is_closed:
            return
        broker = self._broker
        if self.cleaner is None:
            if not any(p.log.rules.compact and len(p.log.segments) > 1 for p in broker.replicas):
                return
            from ottla.broker.log_cleaner import LogCleaner

            self.cleaner = LogCleaner(
                broker.replicas,
                broker.directories.directory_of,
                lambda: broker.config,
                broker.clock,
            )
        self.cleaner.look()

    async def _close_cleaner(self) -> None:
        self._cleaner_is_closed = True
        if self.cleaner is not None:
            await self.cleaner.close()

    def _expire_producers(self) -> None:
        self._broker.directories.remove_expired_producers(
            self._broker.clock.now_ms(), self._broker.config.producer_id_expiration_ms
        )

    def _flush_by_time(self) -> None:
        """``flush.ms``, where a topic has it."""
        self._broker.directories.want_overdue_flushes(self._broker.clock.now_ms())

    async def _empty_trash(self) -> None:
        clock = self._broker.clock
        for directory in self._broker.directories:
            paths = directory.trash.take_due(clock.now_ms())
            if paths:
                for path in await asyncio.to_thread(directory.remove_trash, paths):
                    directory.trash.put(path, clock.now_ms() + TRASH_RETRY_MS)

    async def _quarantine(self) -> None:
        """``ottla log verify --quarantine`` beside this broker."""
        for directory in self._broker.directories:
            if directory.offline is None:
                await take_out_of_service(self._broker, self._disk, directory.path)
