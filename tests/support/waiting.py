"""Waiting for a condition with a deadline, never for a time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = float(os.environ.get("OTTLA_TEST_DEADLINE_S", "30"))
"""Long enough for a busy machine: a test that waits this long has failed. Where failures are what is wanted
(``tests.meta``) it is shorter."""
PAUSE_S = 0.005


def eventually(probe: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first truthy answer of ``probe``; fails with ``what`` if there is none before the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {deadline_s} s: {what}; the last answer was {answer!r}"
            )
        time.sleep(PAUSE_S)


async def eventually_true(
    probe: Callable[[], Awaitable[object]], what: str, deadline_s: float = DEADLINE_S
) -> None:
    """The same on an event loop: return once ``probe`` answers with something true."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await probe():  # noqa: ASYNC110 - a condition of any kind, not an event
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s} s: {what}") from None


def wait_until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Return once ``condition`` holds."""
    eventually(condition, "the condition", deadline_s)


async def become(
    condition: Callable[[], object],
    show: Callable[[], object] | None = None,
    deadline_s: float = min(20.0, DEADLINE_S),
) -> None:
    """Give the loop turns until ``condition`` holds; ``show`` says in a failure how things stand."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {deadline_s} s; it is {show() if show else '?'}")
        await asyncio.sleep(0)
