"""A call that is to come after a while: however often it is asked for before, it comes once.

Rule: what was asked for first counts; a later request moves it neither forth nor back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Later:
    """One call, under way or not; on the running loop."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._timer: asyncio.TimerHandle | None = None

    def after(self, delay_s: float) -> None:
        """Have it come in ``delay_s`` seconds, unless it is to come already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._due)

    def cancel(self) -> None:
        """Have it not come; ``after`` may ask for it again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._call()
