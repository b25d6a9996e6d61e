"""Tests that are coroutines: each on an event loop of its own, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

DEADLINE_S = 60.0
"""Longer than any condition in a test is waited for: that is to say what did not become so."""


def run_coroutine_test(item: pytest.Function, closes: str) -> bool | None:
    """Run ``item`` if it is an ``async def``, and close its fixture ``closes`` before its loop ends.

    For a conftest's ``pytest_pyfunc_call``: True says that it was run.
    """
    if not inspect.iscoroutinefunction(item.obj):
        return None
    names = inspect.signature(item.obj).parameters
    arguments: dict[str, Any] = {name: item.funcargs[name] for name in names}

    async def run() -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await item.obj(**arguments)
        finally:
            if closes in arguments:
                await arguments[closes].close()

    asyncio.run(run())
    return True
