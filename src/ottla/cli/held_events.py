"""Holds log events back while a broker starts, because drawing the first one imports what draws it.

On a terminal that takes longer than the rest of a start. Events keep their own times and go out together a
moment after the broker is ready, or at once with the first error.
"""

from __future__ import annotations

import logging
import threading

RELEASE_AFTER_S = 1.0
HELD_MAX = 10_000


class HeldEvents(logging.Handler):
    """A handler in front of ``target`` that keeps what it is given until ``hand_over``."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._held: list[logging.LogRecord] | None = []
        self._lock = threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep ``record``; after ``hand_over``, pass it on."""
        with self._lock:
            if self._held is None:
                passing_on = True
            else:
                passing_on = False
                self._held.append(record)
                urgent = record.levelno >= logging.ERROR or len(self._held) >= HELD_MAX
        if passing_on:
            self._target.handle(record)
        elif urgent:
            self.hand_over()

    def hand_over(self) -> None:
        """Pass on everything in order, and from now on at once; a second call does nothing.

        It takes its time, and may take it on a thread of its own: what comes meanwhile is kept, too, so
        that nobody else waits for the import.
        """
        while True:
            with self._lock:
                if not self._held:
                    self._held = None
                    return
                held, self._held = self._held, []
            for record in held:
                self._target.handle(record)


def hold_events() -> HeldEvents:
    """Put a holding handler in front of the root logger's handlers."""
    root = logging.getLogger()
    (target,) = root.handlers
    held = HeldEvents(target)
    root.handlers[:] = [held]
    return held
