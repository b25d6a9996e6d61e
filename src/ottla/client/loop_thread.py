"""The bridge between an application without asyncio and the asyncio core: a loop on a thread of its own.

``run`` waits for a coroutine on that loop. While it waits, the waiting thread itself carries out what
the coroutine asks it to (``in_caller``): so that an application's rebalance callbacks run in the thread
that called ``poll``, and may use the client from there.

While the loop's thread sleeps, another one may do a part of its work (``visit``), where the system's loop lets us: what
runs on the loop and what runs in a visit never run at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import selectors
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ottla.loops import rest_of

T = TypeVar("T")

_Message = tuple[Callable[[], Any] | None, "asyncio.Future[Any] | None"]

_caller: contextvars.ContextVar[queue.SimpleQueue[_Message] | None] = contextvars.ContextVar(
    "ottla_caller", default=None
)


_threads: weakref.WeakSet[LoopThread] = weakref.WeakSet()


_STOPPED = (
    "the client is closed, or was made before this process was forked: make one in each process"
)


class _Door(selectors.DefaultSelector):
    """Opens while the loop sleeps: whoever holds ``lock`` then is alone with what the loop works on."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()  # one that knows whose it is
        self.is_open = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As any selector's."""
        self.is_open = True
        self.lock.release()
        try:
            return super().select(timeout)
        finally:
            self.lock.acquire()
            self.is_open = False

    def is_held_here(self) -> bool:
        """Whether ``lock`` is the calling thread's."""
        held: bool = self.lock._is_owned()  # type: ignore[attr-defined]
        return held

    def take_again(self) -> None:
        """Acquire ``lock``, whatever signals' handlers raise meanwhile; that is raised once it is ours."""
        failure: BaseException | None = None
        while not self.is_held_here():
            try:
                self.lock.acquire()
            except BaseException as error:  # before we had it, or just behind it
                failure = error
        if failure is not None:
            raise failure


def _new_loop(*, with_door: bool) -> tuple[asyncio.AbstractEventLoop, _Door | None]:
    """A loop of the kind that the application wants; its door, if one is wanted and that kind can have one."""
    loop = asyncio.new_event_loop()
    if not with_door or type(loop) is not asyncio.SelectorEventLoop or loop.get_debug():
        return loop, None
    loop.close()
    door = _Door()
    return asyncio.SelectorEventLoop(door), door


class LoopThread:
    """A daemon thread with an event loop. It does not live on in a forked process: ``on_fork`` is called there."""

    def __init__(
        self, name: str, on_fork: Callable[[], object] | None = None, *, visited: bool = False
    ) -> None:
        """``visited``: another thread wants to call ``visit``."""
        self.on_fork = on_fork
        _threads.add(self)
        self.loop, self._door = _new_loop(with_door=visited)
        self._has_more = rest_of(self.loop)
        self.disturbed = False
        """Whether a visit was interrupted by a signal's handler that had the loop do something."""
        self.suspended = False
        """Whether one is being interrupted so: it will go on."""
        self._inboxes: set[queue.SimpleQueue[_Message]] = set()
        """Of all who wait in ``run``."""
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call on the loop; returns at once."""
        self.loop.call_soon_threadsafe(callback)

    def is_dead_or_here(self) -> bool:
        """Whether waiting for the loop would be in vain: then ``run`` says why."""
        return threading.current_thread() is self._thread or not self._thread.is_alive()

    @property
    def can_be_visited(self) -> bool:
        """Whether ``visit`` may be called."""
        return self._door is not None

    def visit(self, work: Callable[[], None], *, wait: bool) -> bool:
        """Call ``work`` here and now, as if on the loop, which sleeps; whether it was called.

        It is not if the loop is busy, unless we are to ``wait``, nor within another visit or on the loop's own thread.
        What it has the loop ``call_soon`` is done soon; a timer that it sets may be late. A signal's handler may run in the
        midst of it, as anywhere: if that asks the loop for something, the loop is let go on, and ``disturbed`` says so.
        """
        door = self._door
        if door is None or door.is_held_here() or not (wait or door.is_open):
            return False
        with door.lock:
            work()
            if not self.loop.is_closed() and self._has_more():
                self.loop.call_soon_threadsafe(_nothing)
        return True

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; if the wait is interrupted, the coroutine is cancelled.

        Raises ``RuntimeError`` on the loop's own thread, when the loop has stopped or stops before there is
        a result, and in a forked process, where the thread is not.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a callback on the client's own thread must not wait for the client")
        if not self._thread.is_alive():
            coroutine.close()
            raise RuntimeError(_STOPPED)
        return self._outside(lambda: self._run(coroutine))

    def _outside(self, wait: Callable[[], T]) -> T:
        """What ``wait`` waits for; within a visit (we are in a signal's handler) the loop is let go on meanwhile."""
        door = self._door
        if door is None or not door.is_held_here():
            return wait()
        self.disturbed = self.suspended = True
        try:
            door.lock.release()
            return wait()
        finally:
            door.take_again()
            self.suspended = False

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        task: asyncio.Task[T] | None = None

        def begin() -> None:
            nonlocal task
            _caller.set(inbox)
            task = self.loop.create_task(coroutine)
            task.add_done_callback(lambda _: inbox.put((None, None)))

        self._inboxes.add(inbox)
        try:
            self.loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
        except RuntimeError:  # it has been closed this moment
            self._inboxes.discard(inbox)
            coroutine.close()
            raise RuntimeError(_STOPPED) from None
        try:
            while True:
                call, answer = inbox.get()
                if call is None or answer is None:
                    break
                self._carry_out(call, answer)
        except BaseException:
            self.loop.call_soon_threadsafe(lambda: task is not None and task.cancel())
            raise
        finally:
            self._inboxes.discard(inbox)
        if task is None:
            coroutine.close()
        if task is None or not task.done() or task.cancelled():
            raise RuntimeError(_STOPPED)
        return task.result()

    def stop(self) -> None:
        """End the loop and the thread."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._outside(self._thread.join)

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
        with contextlib.nullcontext() if self._door is None else self._door.lock:
            try:
                self.loop.run_forever()
            finally:
                self._let_go()
                self.loop.close()
                # Who has asked behind the loop's last turn is told here: nothing comes of it.
                for inbox in list(self._inboxes):
                    inbox.put((None, None))

    def _let_go(self) -> None:
        """Nobody waits for ever: what still runs is cancelled, and who waits in ``run`` hears of it."""

        async def cancel() -> None:
            await asyncio.sleep(0)  # what has been called for begins first
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        self.loop.run_until_complete(cancel())


def _nothing() -> None:
    """Wakes the loop."""


async def in_caller(call: Callable[[], Any]) -> Any:
    """Carry out ``call`` in the thread that waits in ``LoopThread.run``; here and now if there is none."""
    inbox = _caller.get()
    if inbox is None:
        return call()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    inbox.put((call, answer))
    return await answer


def _after_fork() -> None:
    for thread in list(_threads):
        if thread.on_fork is not None:
            thread.on_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
