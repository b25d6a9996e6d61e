"""What a broker does from time to time, without anybody asking.

Rule: a job that fails is logged and comes again; it stops neither the others nor itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ottla.logs import logger

log = logger(__name__)

Job = Callable[[], Awaitable[None] | None]


class Housekeeping:
    """Jobs, each in its own interval."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, interval_ms: int, job: Job, *, first_after_ms: int | None = None) -> None:
        """Run ``job`` every ``interval_ms``, first after ``first_after_ms`` (the interval, if None)."""
        first = interval_ms if first_after_ms is None else first_after_ms
        self._tasks.append(asyncio.create_task(self._run(interval_ms / 1000, first / 1000, job)))

    async def stop(self) -> None:
        """End all jobs, wherever they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _run(self, interval_s: float, first_s: float, job: Job) -> None:
        await asyncio.sleep(first_s)
        while True:
            try:
                outcome = job()
                if outcome is not None:
                    await outcome
            except Exception as error:
                log.error("a housekeeping job failed", error=error, job=job.__qualname__)
            await asyncio.sleep(interval_s)
