"""The time for which this broker may act on what its session with the coordination store gave it.

Rules:
- While the lease is over nothing is appended for a client, no high watermark advances, and nobody is told that
  something is committed: the session may have expired, and another broker may lead (INVARIANTS 11, 29).
- It is looked at where it matters, not announced: a process that was stopped wakes with requests before it.
- The clock is the one that goes on while the machine sleeps: see ``ottla.clock.boottime``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ottla.clock import boottime

FOREVER = math.inf


class Lease:
    """``end`` is where it is over as far as is known: seconds of ``boottime``, or ``FOREVER``."""

    __slots__ = ("_end_now", "end")

    def __init__(self, end: float = FOREVER) -> None:
        """A lease up to ``end``, unless it is renewed."""
        self.end = end
        self._end_now: Callable[[], float] | None = None

    def is_over(self) -> bool:
        """Whether it has ended, by the last that is known of the session."""
        end = self.end
        if end == FOREVER or boottime() < end:
            return False
        if self._end_now is not None:
            self.end = end = self._end_now()
        return boottime() >= end

    def renew_from(self, end_now: Callable[[], float]) -> None:
        """Go by a session from now on: ``end_now`` says up to when it lives."""
        self._end_now = end_now
        self.end = end_now()

    def revoke(self) -> None:
        """The session has ended: the lease is over until there is another one."""
        self._end_now = None
        self.end = -FOREVER
