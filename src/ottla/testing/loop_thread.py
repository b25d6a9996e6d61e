"""An event loop in a thread of its own, for what is to run beside blocking code as well as beside asyncio.

Rule: ``stop`` returns once what runs there is over and the thread is gone, and raises what ended it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

UntilStopped = Callable[[], Awaitable[None]]
Work = Callable[[UntilStopped], Coroutine[Any, Any, None]]


class LoopThread:
    """Runs ``work`` on a loop (of ``loop_factory``, if one is given); may be started again after a stop.

    ``work`` is given a function which it awaits as soon as it has started: that returns when it is to stop.
    """

    def __init__(
        self,
        name: str,
        work: Work,
        *,
        start_timeout_s: float,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self._name = name
        self._work = work
        self._start_timeout_s = start_timeout_s
        self._loop_factory = loop_factory
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._started = threading.Event()

    @property
    def is_there(self) -> bool:
        """Whether there is a thread: from ``start`` to the end of ``stop``, or until a start has failed."""
        return self._thread is not None

    def start(self) -> None:
        """Begin, and wait until the work has started.

        Raises what ended it before that, or ``TimeoutError``: then the thread is still there.
        """
        self._started.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        if not self._started.wait(self._start_timeout_s):
            raise TimeoutError(f"{self._name} did not start within {self._start_timeout_s} s")
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure

    def stop(self) -> None:
        """Have the work stop, and wait for its end; a second call does nothing. Raises what ended it."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None
        if self._failure is not None:
            raise self._failure

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop, from another thread, and wait for it."""
        assert self._loop is not None, f"{self._name} is not started"
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        stop = self._stop = asyncio.Event()

        async def until_stopped() -> None:
            self._started.set()
            await stop.wait()

        await self._work(until_stopped)
