"""Tests that are coroutines are run."""

from __future__ import annotations

import pytest

from tests.support.coroutines import run_coroutine_test


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests."""
    return run_coroutine_test(pyfuncitem, closes="")
