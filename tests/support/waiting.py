"""Waiting for what another thread brings about."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic


def wait_until(condition: Callable[[], object], deadline_s: float = 20.0) -> None:
    """Return once ``condition`` holds; fail if it does not come about."""
    end = monotonic() + deadline_s
    pause = threading.Event()
    while not condition():
        assert monotonic() < end, "the condition did not come about"
        pause.wait(0.005)
