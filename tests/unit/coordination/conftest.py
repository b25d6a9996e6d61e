"""The stores under contract, and a runner for tests that are coroutines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from ottla.clock import ManualClock
from ottla.coordination.embedded import IN_MEMORY, Keeper
from ottla.coordination.local import LocalStores
from ottla.coordination.local_server import StoreServer
from ottla.coordination.store import Store
from tests.support.coroutines import run_coroutine_test
from tests.support.zookeeper import Ensemble, ensemble, zookeeper

if TYPE_CHECKING:
    from ottla.coordination.zookeeper import ZooKeeper

__all__ = ["ensemble", "zookeeper"]


class Stores(Protocol):
    """Opens sessions with one store; embedded or real."""

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


class SocketStores:
    """Sessions with one embedded store, over a Unix socket."""

    def __init__(self, directory: Path) -> None:
        self.clock: ManualClock | None = ManualClock()
        self._path = directory / "socket" / "store"
        self._server: StoreServer | None = None
        self._brokers: list[LocalStores] = []

    async def connect(self) -> Store:
        if self._server is None:
            self._server = StoreServer(await Keeper.open(clock=self.clock))
            await self._server.start(self._path)
        self._brokers.append(LocalStores(self._path, 60_000))
        return await self._brokers[-1].connect()

    async def expire(self, store: Store) -> None:
        assert self._server is not None
        ended = asyncio.Event()
        store.on_state(lambda state: ended.set())
        await self._server.keeper.expire(store.session_id)
        await ended.wait()

    async def close(self) -> None:
        for broker in self._brokers:
            await broker.close()
        if self._server is not None:
            await self._server.close()
            await self._server.keeper.close()


class ZooKeeperStores:
    """Sessions with a real ZooKeeper, below a path of their own."""

    def __init__(self, connect: str, session_timeout_ms: int = 6_000) -> None:
        from ottla.coordination.zookeeper import ZooKeeper

        self.clock: ManualClock | None = None
        self.ensemble = ZooKeeper(connect, session_timeout_ms=session_timeout_ms)

    async def connect(self) -> Store:
        return await self.ensemble.connect()

    async def expire(self, store: Store) -> None:
        await asyncio.to_thread(end_session, self.ensemble, store)

    async def close(self) -> None:
        await self.ensemble.close()


def end_session(ensemble: ZooKeeper, store: Any) -> None:
    """Close the session from another connection: to its owner it is as if it had expired."""
    from kazoo.client import KazooClient

    server = ensemble.address.servers[0]
    client = KazooClient(
        f"{server.host}:{server.port}", client_id=store._link._client.client_id, timeout=6
    )
    client.start()
    client.stop()
    client.close()


@pytest.fixture(params=["memory", "sqlite", "socket", "zookeeper"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """One fresh, empty store of each kind."""
    if request.param == "zookeeper":
        servers: Ensemble = request.getfixturevalue("zookeeper")
        return ZooKeeperStores(servers.fresh_chroot())
    if request.param == "socket":
        return SocketStores(tmp_path)
    return EmbeddedStores(
        IN_MEMORY if request.param == "memory" else str(tmp_path / "store.sqlite")
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests."""
    return run_coroutine_test(pyfuncitem, closes="stores")
