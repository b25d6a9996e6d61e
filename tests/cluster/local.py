"""Three brokers in processes of their own over one store on this machine, as ``ottla serve --brokers`` has them.

The store is in the test's process, in a thread, so that a test can end a broker's session and look at the znodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ottla.coordination.embedded import Keeper
from ottla.coordination.local_server import StoreServer
from ottla.coordination.store import NoNode, Store
from tests.cluster.processes import BROKERS, SETTINGS, ClusterProcesses
from tests.cluster.zookeeper_view import EXPIRY_S, ZooKeeperView
from tests.crash.checker import Partition
from tests.crash.process import BrokerProcess
from tests.support.ports import HeldPorts
from tests.support.waiting import DEADLINE_S, eventually

T = TypeVar("T")


class LocalView(ZooKeeperView):
    """The store, offered at ``socket``, and what is in it."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket" / "store"
        self._directory = directory
        self._lock = threading.Lock()
        self._seen = []
        self._latest = {}
        self._replicas = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._keeper, self._server, self._store = self._ask(self._open())

    async def _open(self) -> tuple[Keeper, StoreServer, Store]:
        keeper = await Keeper.open(self._directory / "store.sqlite")
        server = StoreServer(keeper)
        await server.start(self.socket)
        return keeper, server, await keeper.connect()

    def start(self) -> None:
        """It is there already: the brokers want it."""

    def close(self) -> None:
        """End it."""

        async def close() -> None:
            await self._server.close()
            await self._keeper.close()

        self._ask(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def expire_session_of(self, node: int) -> None:
        """End the session that owns a broker's registration, and wait until the broker has another one."""
        found = self._get(f"/brokers/ids/{node}")
        assert found is not None, f"broker {node} is not registered"
        epoch = found[1].czxid
        self._ask(self._keeper.expire(found[1].ephemeral_owner))
        eventually(
            lambda: self.broker_epoch(node) not in (None, epoch),
            f"broker {node} has a new session",
            EXPIRY_S,
        )

    def _watch(self, partition: Partition, path: str) -> None:
        """States are looked at when they are asked for."""

    def _get(self, path: str) -> tuple[bytes, Any] | None:
        try:
            return self._ask(self._store.get(path))
        except NoNode:
            return None

    def _children(self, path: str) -> list[str]:
        try:
            return self._ask(self._store.children(path))
        except NoNode:
            return []

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result(DEADLINE_S)


class LocalProcesses(ClusterProcesses):
    """Brokers 1, 2 and 3, whose store is this machine's."""

    def __init__(self, directory: Path, settings: Mapping[str, object]) -> None:
        self.directory = directory
        self.zookeeper = LocalView(directory)
        self._exits = contextlib.ExitStack()
        self._ports = HeldPorts(len(BROKERS))
        self._reached = {
            node: f"127.0.0.1:{port}" for node, port in zip(BROKERS, self._ports.ports, strict=True)
        }
        self.paused = set()
        lifeline, end = os.pipe()
        for descriptor in (lifeline, end):
            self._exits.callback(os.close, descriptor)
        self.brokers = {
            node: BrokerProcess(
                directory / f"data-{node}",
                directory / f"broker-{node}.log",
                {**SETTINGS, **settings},
                {"OTTLA_LOG_LEVEL": "DEBUG"},
                options=(
                    f"--store-socket={self.zookeeper.socket}",
                    f"--lifeline={lifeline}",
                    f"--node-id={node}",
                ),
                port=port,
                descriptors=(lifeline,),
            )
            for node, port in zip(BROKERS, self._ports.ports, strict=True)
        }
