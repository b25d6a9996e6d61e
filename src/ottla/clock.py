"""Time as the rooms see it: injected, so that a simulation can move it."""

from __future__ import annotations

import time
from typing import Protocol

from ottla.capabilities import BOOTTIME


def boottime() -> float:
    """Seconds that never go back and go on while the machine sleeps, for what others count too.

    A lease that somebody else holds against us runs out in our sleep. Where the system has no such clock
    it is the monotonic one.
    """
    return time.monotonic() if BOOTTIME is None else time.clock_gettime(BOOTTIME)


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970, for record timestamps and retention."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for deadlines."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class ManualClock:
    """A clock that a test moves."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        """The wall time that was set, in milliseconds."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds that ``advance`` has added so far."""
        return self._monotonic_ms / 1000

    def advance(self, milliseconds: int) -> None:
        """Let ``milliseconds`` pass on both clocks."""
        self._now_ms += milliseconds
        self._monotonic_ms += milliseconds

    def set_wall(self, now_ms: int) -> None:
        """Step the wall clock alone, as an administrator or a bad NTP server does."""
        self._now_ms = now_ms
