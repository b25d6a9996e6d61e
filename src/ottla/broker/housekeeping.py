"""What a broker does from time to time, without anybody asking.

Rules: a job that fails is logged and comes again; it stops neither the others nor itself. One that is under way
when the broker stops is done to its end: what it does in a thread could not be called back, and would write
into a directory that is no longer ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ottla.errors import KafkaError
from ottla.logs import logger

log = logger(__name__)

FLUSH_CHECK_INTERVAL_MS = 1_000
TRASH_INTERVAL_MS = 1_000

Job = Callable[[], Awaitable[None] | None]


class Housekeeping:
    """Jobs, each in its own interval."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._asleep: set[asyncio.Task[None]] = set()
        self._stopping = False

    def every(
        self, interval_ms: int | Callable[[], int], job: Job, *, first_after_ms: int | None = None
    ) -> None:
        """Run ``job`` every ``interval_ms``, first after ``first_after_ms`` (the interval, if None).

        An interval that changes while the broker runs is a function, asked before each wait.
        """
        interval = interval_ms if callable(interval_ms) else lambda: interval_ms
        first = interval() if first_after_ms is None else first_after_ms
        task = asyncio.create_task(self._run(interval, first / 1000, job))
        self._tasks.append(task)
        self._asleep.add(task)

    async def stop(self) -> None:
        """End all jobs: those that are under way are finished first."""
        self._stopping = True
        for task in self._asleep:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _run(self, interval_ms: Callable[[], int], first_s: float, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(first_s)
        while not self._stopping:
            self._asleep.discard(task)
            try:
                outcome = job()
                if outcome is not None:
                    await outcome
            except (KafkaError, OSError) as error:  # the disk's doing: its own words are enough
                log.warning("a housekeeping job failed", job=job.__qualname__, reason=str(error))
            except Exception as error:
                log.error("a housekeeping job failed", error=error, job=job.__qualname__)
            self._asleep.add(task)
            if not self._stopping:
                await asyncio.sleep(interval_ms() / 1000)
