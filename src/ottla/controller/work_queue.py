"""The controller's queue: one piece of work after the other, whoever asked for it.

Rules: a caller that gives up does not stop what it asked for. A failure is its caller's; where the office is lost the
controller is told too, and of every failure of work of its own, which has nobody else to tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from ottla.controller.office import ControllerMoved
from ottla.controller.refusals import answer_for, not_controller
from ottla.coordination.store import StoreError
from ottla.errors import KafkaError
from ottla.logs import logger

log = logger(__name__)

_T = TypeVar("_T")


class _Work(NamedTuple):
    run: Callable[[], Awaitable[Any]]
    future: asyncio.Future[Any] | None  # None: for the controller itself


class WorkQueue:
    """Runs coroutines in turn, in a task of its own."""

    def __init__(
        self,
        on_moved: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """``on_moved``: the office is lost. ``on_failure``: work of the controller itself failed."""
        self._on_moved = on_moved
        self._on_failure = on_failure
        self._queue: asyncio.Queue[_Work] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether what is put here is done."""
        return self._task is not None

    def start(self) -> None:
        """Begin with what has been put here so far."""
        self._task = asyncio.create_task(self._serve(), name="controller")

    async def close(self) -> None:
        """Drop what is under way, and refuse what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        while not self._queue.empty():
            _refuse(self._queue.get_nowait().future, not_controller())

    def put(self, run: Callable[[], Awaitable[Any]]) -> None:
        """Have ``run`` called in its turn; nobody waits for it."""
        self._queue.put_nowait(_Work(run, None))

    async def submit(self, run: Callable[[], Awaitable[_T]]) -> _T:
        """Have ``run`` called in its turn, and wait for what it returns or raises."""
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Work(run, future))
        return await future

    async def settle(self) -> None:
        """Wait until all that is on the queue now is done."""

        async def nothing() -> None:
            return

        await self.submit(nothing)

    async def _serve(self) -> None:
        while True:
            run, future = await self._queue.get()
            try:
                result = await run()
            except ControllerMoved:
                self._on_moved()
                _refuse(future, not_controller())
            except Exception as error:
                if future is None:
                    self._on_failure(error)
                elif isinstance(error, StoreError):
                    _refuse(future, answer_for(error))
                else:
                    if not isinstance(error, KafkaError):
                        log.error("controller could not do what it was asked for", error=error)
                    _refuse(future, error)
            except asyncio.CancelledError:
                _refuse(future, not_controller())
                raise
            else:
                if future is not None and not future.done():
                    future.set_result(result)


def _refuse(future: asyncio.Future[Any] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
