"""Tests here may be coroutines."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from tests.support.coroutines import run_coroutine_test


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests, and close what they opened before their loop ends."""
    return run_coroutine_test(pyfuncitem, "opened")


@pytest.fixture
def opened() -> Opened:
    """What a test opens, closed at its end."""
    return Opened()


class Opened:
    """Things with a ``close``."""

    def __init__(self) -> None:
        self.things: list[object] = []

    async def close(self) -> None:
        """Close them all, the last first."""
        while self.things:
            closing = self.things.pop().close()  # type: ignore[attr-defined]
            if inspect.isawaitable(closing):
                await closing
        await asyncio.sleep(0)
        await asyncio.sleep(
            0
        )  # a connection that is aborted is told so one turn later, and closed then
