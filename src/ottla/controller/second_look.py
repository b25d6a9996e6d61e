"""When the controller looks again at the office and at everything there is, after something kept it from its work.

Rules: a store that gave no answer is asked again soon, as often as it takes. Whatever else went wrong may be there the next time
too: the pause before the next look doubles from one to the next, and until it is over nothing is tried
(``holds_back``), whoever asks. Faults that have nothing to do with each other, a while lying between them, are not
counted together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ottla.controller.later import Later
from ottla.coordination.store import ConnectionLoss, SessionExpired
from ottla.logs import logger

log = logger(__name__)

RETRY_S = 0.5
"""Pause after the store gave no answer, and after the first fault."""

RETRY_S_MAX = 30.0
"""The longest pause after a fault."""

CALM_S = 2 * RETRY_S_MAX
"""After so long without a fault the next one is the first again."""


class SecondLook:
    """The look that is to come, if one is; on the running loop."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._later = Later(self._due)
        self._last_fault: float | None = None
        self._pause_s = 0.0
        self.holds_back = False
        """Whether the pause after a fault lasts."""

    def soon(self) -> None:
        """Look after a short pause, or when that was to be done anyway."""
        self._later.after(RETRY_S)

    def after(self, error: Exception) -> bool:
        """Look after a pause that ``error`` asks for; true where pauses have not helped for a long time."""
        if isinstance(error, SessionExpired):  # there is nothing left to look at
            return False
        if isinstance(error, ConnectionLoss):
            self.soon()
            return False
        self._hold_back()
        log.error("controller could not do its work", again_in_s=self._pause_s, error=error)
        return self._pause_s >= RETRY_S_MAX

    def _hold_back(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._last_fault is None or now - self._last_fault > CALM_S:
            self._pause_s = 0.0
        self._last_fault = now
        self._pause_s = min(max(2 * self._pause_s, RETRY_S), RETRY_S_MAX)
        self.holds_back = True
        self._later.cancel()
        self._later.after(self._pause_s)

    def cancel(self) -> None:
        """Look no more."""
        self._later.cancel()

    def _due(self) -> None:
        self.holds_back = False
        self._look()
