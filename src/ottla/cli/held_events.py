"""Holds log events back while a broker starts, because drawing the first one imports structlog.

That import takes longer than the rest of a start. Events keep their own times and go out together a
moment after the broker is ready, or at once with the first error.
"""

from __future__ import annotations

import logging

RELEASE_AFTER_S = 1.0
HELD_MAX = 10_000


class HeldEvents(logging.Handler):
    """A handler in front of ``target`` that keeps what it is given until ``hand_over``."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._held: list[logging.LogRecord] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep ``record``; after ``hand_over``, pass it on."""
        if self._held is None:
            self._target.handle(record)
            return
        self._held.append(record)
        if record.levelno >= logging.ERROR or len(self._held) >= HELD_MAX:
            self.hand_over()

    def hand_over(self) -> None:
        """Pass on everything in order, and from now on at once; a second call does nothing."""
        held, self._held = self._held, None
        for record in held or ():
            self._target.handle(record)


def hold_events() -> HeldEvents:
    """Put a holding handler in front of the root logger's handlers."""
    root = logging.getLogger()
    (target,) = root.handlers
    held = HeldEvents(target)
    root.handlers[:] = [held]
    return held
