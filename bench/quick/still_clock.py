"""A clock that stands while instructions are counted: no timer falls due, and nobody's turn is over, for being slow.

Each look at it moves it by a microsecond, so what goes by it is the same from run to run. Imported before anything that
takes ``time.monotonic`` for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_S = 1e-6


class StillClock:
    """In the place of ``time.monotonic`` and its like."""

    def __init__(self) -> None:
        self._real: Callable[[], float] = time.monotonic
        self._behind = 0.0
        self._stands_at = -1.0

    def __call__(self) -> float:
        if self._stands_at < 0:
            return self._real() - self._behind
        self._stands_at += LOOK_S
        return self._stands_at

    def stand(self) -> None:
        """From now on."""
        self._stands_at = self()

    def go_on(self) -> None:
        """From where it stood."""
        self._behind = self._real() - self._stands_at
        self._stands_at = -1.0


def install() -> StillClock:
    """Have this process go by one."""
    clock = StillClock()
    time.monotonic = time.perf_counter = clock
    return clock
