"""The stores under contract, and a runner for tests that are coroutines."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from ottla.clock import ManualClock
from ottla.coordination.embedded import IN_MEMORY, Keeper
from ottla.coordination.store import Store
from tests.support.coroutines import run_coroutine_test
from tests.support.zookeeper import zookeeper

__all__ = ["zookeeper"]


class Stores(Protocol):
    """Opens sessions with one store; a real ZooKeeper would be another of these."""

    clock: ManualClock | None

    async def connect(self) -> Store: ...

    async def expire(self, store: Store) -> None: ...

    async def close(self) -> None: ...


class EmbeddedStores:
    """Sessions with one embedded store, opened on first use."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.clock: ManualClock | None = ManualClock()
        self._keeper: Keeper | None = None

    async def connect(self) -> Store:
        if self._keeper is None:
            self._keeper = await Keeper.open(self.path, clock=self.clock)
        return await self._keeper.connect()

    async def expire(self, store: Store) -> None:
        assert self._keeper is not None
        await self._keeper.expire(store.session_id)

    async def close(self) -> None:
        if self._keeper is not None:
            await self._keeper.close()


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """One fresh, empty store of each kind."""
    return EmbeddedStores(
        IN_MEMORY if request.param == "memory" else str(tmp_path / "store.sqlite")
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests."""
    return run_coroutine_test(pyfuncitem, closes="stores")
