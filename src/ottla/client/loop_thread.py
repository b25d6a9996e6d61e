"""The bridge between an application without asyncio and the asyncio core: a loop on a thread of its own.

``run`` waits for a coroutine on that loop. While it waits, the waiting thread itself carries out what
the coroutine asks it to (``in_caller``): so that an application's rebalance callbacks run in the thread
that called ``poll``, and may use the client from there.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_Message = tuple[Callable[[], Any] | None, "asyncio.Future[Any] | None"]

_caller: contextvars.ContextVar[queue.SimpleQueue[_Message] | None] = contextvars.ContextVar(
    "ottla_caller", default=None
)


class LoopThread:
    """A daemon thread with an event loop."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call on the loop; returns at once."""
        self.loop.call_soon_threadsafe(callback)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; if the wait is interrupted, the coroutine is cancelled.

        Must not be called on the loop's own thread (``RuntimeError``).
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a callback on the client's own thread must not wait for the client")
        inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        task: asyncio.Task[T] | None = None

        def begin() -> None:
            nonlocal task
            _caller.set(inbox)
            task = self.loop.create_task(coroutine)
            task.add_done_callback(lambda _: inbox.put((None, None)))

        self.loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
        try:
            while True:
                call, answer = inbox.get()
                if call is None or answer is None:
                    break
                self._carry_out(call, answer)
        except BaseException:
            self.loop.call_soon_threadsafe(lambda: task is not None and task.cancel())
            raise
        if task is None:
            raise RuntimeError("the client's loop has stopped")
        return task.result()

    def stop(self) -> None:
        """End the loop and the thread."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def _carry_out(self, call: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        def settle() -> None:
            if answer.done():
                return
            if failure is not None:
                answer.set_exception(failure)
            else:
                answer.set_result(result)

        result: Any = None
        failure: Exception | None = None
        try:
            result = call()
        except Exception as error:
            failure = error
        self.loop.call_soon_threadsafe(settle)

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


async def in_caller(call: Callable[[], Any]) -> Any:
    """Carry out ``call`` in the thread that waits in ``LoopThread.run``; here and now if there is none."""
    inbox = _caller.get()
    if inbox is None:
        return call()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    inbox.put((call, answer))
    return await answer
