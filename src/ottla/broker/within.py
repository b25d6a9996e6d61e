"""A change with a time limit: the client stops waiting, the change goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from ottla.controller.topics import TopicResult
from ottla.errors import ErrorCode, KafkaError

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


async def topics_within(
    timeout_ms: int, change: Coroutine[Any, Any, list[TopicResult]], names: Iterable[str]
) -> list[TopicResult]:
    """The outcome of a change of topics ``names``, or for each of them why there is none.

    REQUEST_TIMED_OUT, or what the controller refused the change as a whole with: NOT_CONTROLLER.
    """
    try:
        outcome = await within(timeout_ms, change)
    except KafkaError as error:
        return [TopicResult.refused(name, error) for name in names]
    if outcome is None:
        return [TopicResult(name, ErrorCode.REQUEST_TIMED_OUT) for name in names]
    return outcome
