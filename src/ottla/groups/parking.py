"""Answers of one partition that wait until what was appended is committed.

Rules: an answer is delivered once, with the error code of its wait: NONE when committed, the log's own code
when it cannot be, REQUEST_TIMED_OUT after ``offsets.commit.timeout.ms``, and whatever ``fail`` says when the
partition goes. All wait equally long, so one timer for the oldest serves them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ottla.clock import Clock
from ottla.errors import ErrorCode, KafkaError

Deliver = Callable[[ErrorCode], None]


class Timer(Protocol):
    """A callback that is due."""

    def cancel(self) -> None:
        """Let it not be called."""
        ...


class Timers(Protocol):
    """Calls back after a time; an asyncio event loop is one."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call ``callback`` once after ``delay`` seconds."""
        ...


class _Wait:
    __slots__ = ("committed", "deadline", "deliver")

    def __init__(self, committed: asyncio.Future[None], deadline: float, deliver: Deliver) -> None:
        self.committed = committed
        self.deadline = deadline
        self.deliver = deliver


class Parking:
    """The waits of one partition."""

    __slots__ = ("_clock", "_timeout_s", "_timer", "_timers", "_waits", "_when_committed", "end")

    def __init__(
        self,
        when_committed: Callable[[int], asyncio.Future[None]],
        clock: Clock,
        timers: Timers,
        timeout_ms: int,
    ) -> None:
        self.end = 0
        """Up to where everything is known to be committed (an exclusive end)."""
        self._when_committed = when_committed
        self._clock = clock
        self._timers = timers
        self._timeout_s = timeout_ms / 1000
        self._waits: dict[_Wait, None] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._waits)

    def after(self, end_offset: int, deliver: Deliver) -> None:
        """Call ``deliver`` once everything below ``end_offset`` is committed; at once if it is."""
        if end_offset <= self.end:
            deliver(ErrorCode.NONE)
            return
        committed = self._when_committed(end_offset)
        if committed.done():
            deliver(self._result(committed, end_offset))
            return
        wait = _Wait(committed, self._clock.monotonic() + self._timeout_s, deliver)
        self._waits[wait] = None
        committed.add_done_callback(lambda done: self._settle(wait, end_offset))
        if self._timer is None:
            self._timer = self._timers.call_later(self._timeout_s, self._expire)

    def fail(self, code: ErrorCode) -> None:
        """Deliver ``code`` to all: the log is not ours any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits, self._waits = self._waits, {}
        for wait in waits:
            wait.committed.cancel()
            wait.deliver(code)

    def _settle(self, wait: _Wait, end_offset: int) -> None:
        if wait in self._waits:
            del self._waits[wait]
            wait.deliver(self._result(wait.committed, end_offset))

    def _result(self, committed: asyncio.Future[None], end_offset: int) -> ErrorCode:
        if committed.cancelled():
            return ErrorCode.REQUEST_TIMED_OUT
        error = committed.exception()
        if error is None:
            self.end = max(self.end, end_offset)
            return ErrorCode.NONE
        if isinstance(error, KafkaError):
            return error.code
        raise error

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._waits:
            wait = next(iter(self._waits))
            if wait.deadline > now:
                self._timer = self._timers.call_later(wait.deadline - now, self._expire)
                return
            del self._waits[wait]
            wait.committed.cancel()
            wait.deliver(ErrorCode.REQUEST_TIMED_OUT)
