"""What an event loop tells of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def rest_of(loop: Any) -> Callable[[], bool]:
    """Whether the loop has more to do in this turn; where it does not tell, as if it always had."""
    ready = getattr(loop, "_ready", None)
    if ready is None:
        return lambda: True
    return lambda: len(ready) > 0
