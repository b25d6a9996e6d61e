"""Answers that are there at once, or later: how the coordinator and the handlers pass them on.

Rules: an answer that needs no waiting costs no future and no turn of the loop. The futures here end with a
result (an error is an error code in it); one that its reader cancelled is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from ottla.groups.outcome import Waiter

T = TypeVar("T")
U = TypeVar("U")


class Reply(Waiter, Generic[T]):
    """The place where one answer arrives: ``give`` it on one side, ``take`` it on the other."""

    __slots__ = ("_future", "_value")

    def __init__(self) -> None:
        self._value: T | None = None
        self._future: asyncio.Future[T] | None = None

    def give(self, value: T) -> None:
        """Answer; only the first time counts."""
        if self._future is None:
            if self._value is None:
                self._value = value
        elif not self._future.done():
            self._future.set_result(value)

    def take(self) -> T | asyncio.Future[T]:
        """The answer, or the future of it. Call once, after the operation."""
        if self._value is not None:
            return self._value
        self._future = asyncio.get_running_loop().create_future()
        return self._future


def then(value: T | asyncio.Future[T], change: Callable[[T], U]) -> U | asyncio.Future[U]:
    """``change`` applied to the answer, now or when it comes."""
    if not isinstance(value, asyncio.Future):
        return change(value)
    later: asyncio.Future[U] = value.get_loop().create_future()

    def pass_on(done: asyncio.Future[T]) -> None:
        if later.done() or done.cancelled():
            return
        try:
            later.set_result(change(done.result()))
        except Exception as error:  # a bug must not leave the one who waits without an answer
            later.set_exception(error)

    value.add_done_callback(pass_on)
    return later


def gather(values: list[T | asyncio.Future[T]]) -> list[T] | asyncio.Future[list[T]]:
    """All the answers, in order, once the last one is there."""
    waiting = [value for value in values if isinstance(value, asyncio.Future)]
    if not waiting:
        return [value for value in values if not isinstance(value, asyncio.Future)]
    later: asyncio.Future[list[T]] = waiting[0].get_loop().create_future()
    left = len(waiting)

    def count(done: asyncio.Future[T]) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not later.done():
            later.set_result([v.result() if isinstance(v, asyncio.Future) else v for v in values])

    for future in waiting:
        future.add_done_callback(count)
    return later
