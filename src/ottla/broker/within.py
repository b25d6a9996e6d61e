"""A change with a time limit: the client stops waiting, the change goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


async def within(timeout_ms: int, change: Coroutine[Any, Any, T]) -> T | None:
    """The outcome of ``change``, or None after ``timeout_ms``; it is never cut short half-way."""
    task = asyncio.ensure_future(change)
    _running.add(task)  # the loop keeps only a weak reference
    task.add_done_callback(_running.discard)
    try:
        return await asyncio.wait_for(asyncio.shield(task), max(timeout_ms, 1) / 1000)
    except TimeoutError:
        return None
