"""The brokers of a ``Cluster``, on its event loop: what connects them, and what can be done to each.

Rules:
- Whatever a broker does runs in a context of its own, by which the loop knows whose connections are made: those to
  another broker go through the relay between the two.
- A broker that is killed does nothing more that anybody could see: its relays refuse, its session hangs, and its
  next life begins with a copy of the data directory of that moment. What is left of it is stopped in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ottla.coordination import znodes
from ottla.coordination.embedded import Keeper
from ottla.coordination.embedded_session import EmbeddedStore
from ottla.coordination.store import NoNode, StoreError
from ottla.logs import logger
from ottla.testing.relay import Relay
from ottla.testing.sessions import BrokersConnector

if TYPE_CHECKING:
    from ottla.broker.broker import Broker as Server

log = logger(__name__)

LOCK = ".lock"
COPIES_MAX = 20

TURNS_TO_CLOSE = 3
"""In the loop's next turns a connection that was taken just now is made, reset and closed."""

_dialling: ContextVar[Callable[[int], int] | None] = ContextVar("_dialling", default=None)
"""The port to connect to in place of another broker's, for whom this context belongs to."""


class ClusterLoop(asyncio.SelectorEventLoop):
    """Leads the connections of one broker to another through the relay between them."""

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """As everywhere, but for brokers' connections to each other."""
        dial = _dialling.get()
        if dial is not None and port is not None:
            port = dial(port)
        return await super().create_connection(protocol_factory, host, port, **options)


class Node:
    """One broker over all its lives."""

    def __init__(self, broker: int, nodes: Nodes, home: Path) -> None:
        self.id = broker
        self.server: Server | None = None
        self.data = home / f"broker-{broker}"
        self._home = home
        self._lives = 0
        self._nodes = nodes
        self.outside = Relay(self.own_address, host=nodes.host)
        self.links = {
            other: Relay(nodes.address_of(other), host=nodes.host)
            for other in nodes.ids
            if other != broker
        }
        """By another broker, the way to it."""
        self.connector: BrokersConnector | None = None
        self.paused = False
        self._zombies: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that it is known by."""
        return self.outside.port

    @property
    def address(self) -> str:
        """Where clients and other brokers are told to reach it."""
        return f"{self._nodes.host}:{self.port}"

    def own_address(self) -> tuple[str, int]:
        """Where it really listens. Raises OSError while it does not."""
        if self.server is None or not self.server.addresses:
            raise ConnectionRefusedError(f"broker {self.id} does not listen")
        return self.server.address

    def ways_in(self) -> Iterator[Relay]:
        """All ways to it."""
        yield self.outside
        for other in self._nodes:
            if other is not self:
                yield other.links[self.id]

    # -- its life

    async def start(self) -> None:
        """Come up; raises what the broker's start raises."""
        if self.server is not None:
            raise ValueError(f"broker {self.id} is running")
        self.data.mkdir(parents=True, exist_ok=True)
        self.connector = BrokersConnector(self._nodes.keeper, self._nodes.session_timeout_ms)
        for relay in (*self.ways_in(), *self.links.values()):
            await relay.listen()
        from ottla.broker.broker import Broker as Server
        from ottla.settings.broker_config import BrokerConfig

        config = BrokerConfig.of(
            {
                "listeners": f"PLAINTEXT://{self._nodes.host}:0",
                "advertised.listeners": f"PLAINTEXT://{self.address}",
                **self._nodes.settings,
                "log.dirs": str(self.data),
                "node.id": self.id,
            }
        )
        self.server = server = Server(config, connector=self.connector)
        try:
            await self._within(server.start())
        except BaseException:
            self.server = None
            await self._within(server.stop())
            raise

    async def stop(self) -> None:
        """Stop it cleanly; one that is not running is left alone."""
        if self.server is None:
            return
        try:
            await self._within(self.server.stop())
        finally:
            self.server = None
            self._refuse()

    async def kill(self, *, expire: bool) -> None:
        """End it without a word."""
        server, connector = self.server, self.connector
        if server is None or connector is None:
            raise ValueError(f"broker {self.id} is not running")
        # Nothing else runs between these lines: that is the moment of its death.
        self.server = None
        self._refuse()
        connector.die()
        self._lives += 1
        left = self._home / f"broker-{self.id}.{self._lives}"
        _copy(self.data, left)
        self.data = left
        self.paused = False
        self._nodes.steer()
        zombie = asyncio.get_running_loop().create_task(self._bury(server))
        self._zombies.add(zombie)
        zombie.add_done_callback(self._zombies.discard)
        if expire:
            await connector.expire()

    async def expire_session(self) -> None:
        """Have the store end its session."""
        assert self.connector is not None
        await self.connector.expire()

    async def close(self) -> None:
        """Stop it, and wait for the end of its earlier lives."""
        try:
            await self.stop()
        finally:
            if self._zombies:
                await asyncio.wait(self._zombies)
            for relay in (self.outside, *self.links.values()):
                relay.close()

    async def _bury(self, server: Server) -> None:
        """Let go of what a dead broker holds of this process."""
        try:
            await self._within(server.stop())
        except Exception as error:
            log.debug("what a killed broker left was not let go of", node=self.id, error=str(error))

    def _refuse(self) -> None:
        """Nobody is there any more: connections break, and none are made."""
        for relay in self.ways_in():
            relay.refuse()
        for relay in self.links.values():
            relay.reset()

    async def _within(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in this broker's context."""
        context = copy_context()
        context.run(_dialling.set, self._dial)
        await asyncio.get_running_loop().create_task(work, context=context)

    def _dial(self, port: int) -> int:
        other = self._nodes.by_port(port)
        return port if other is None or other is self else self.links[other.id].port


class Nodes:
    """All brokers of a cluster, and the store that they share."""

    def __init__(
        self,
        ids: Iterable[int],
        keeper: Keeper,
        store: EmbeddedStore,
        home: Path,
        host: str,
        settings: Mapping[str, object],
        session_timeout_ms: int,
    ) -> None:
        self.ids = tuple(ids)
        self.keeper = keeper
        self._store = store
        self.host = host
        self.settings = settings
        self.session_timeout_ms = session_timeout_ms
        self._nodes: dict[int, Node] = {}
        for broker in self.ids:
            self._nodes[broker] = Node(broker, self, home)

    @classmethod
    async def open(
        cls,
        ids: Iterable[int],
        home: Path,
        host: str,
        settings: Mapping[str, object],
        session_timeout_ms: int,
    ) -> Nodes:
        """With a store of their own in memory; no broker is started."""
        keeper = await Keeper.open()
        store = await keeper.connect()
        return cls(ids, keeper, store, home, host, settings, session_timeout_ms)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __getitem__(self, broker: int) -> Node:
        node = self._nodes.get(broker)
        if node is None:
            raise ValueError(f"there is no broker {broker}")
        return node

    def address_of(self, broker: int) -> Callable[[], tuple[str, int]]:
        """Where a broker really listens, to be asked when that matters."""
        return lambda: self._nodes[broker].own_address()

    def by_port(self, port: int) -> Node | None:
        """Who is known by a port."""
        return next((node for node in self if node.port == port), None)

    async def close(self) -> None:
        """Stop all, the last one with nobody left to hand over to."""
        for node in self:
            node.paused = False
            if node.connector is not None:
                node.connector.release()
        self.steer()
        try:
            for node in self:
                await node.close()
        finally:
            with contextlib.suppress(StoreError):
                await self._store.close()
            await self.keeper.close()
            for _ in range(TURNS_TO_CLOSE):
                await asyncio.sleep(0)

    # -- pausing

    async def pause(self, broker: int) -> None:
        """Hold all that a broker hears and says."""
        node = self[broker]
        if node.server is None or node.connector is None:
            raise ValueError(f"broker {broker} is not running")
        node.paused = True
        node.connector.hold()
        self.steer()

    async def resume(self, broker: int) -> None:
        """Let it go on."""
        node = self[broker]
        node.paused = False
        if node.connector is not None:
            node.connector.release()
        self.steer()

    def steer(self) -> None:
        """A way is held while either of its ends is paused."""
        for node in self:
            node.outside.let(not node.paused)
            for other, link in node.links.items():
                link.let(not (node.paused or self[other].paused))

    # -- what the store says

    async def registered(self) -> set[int]:
        """Who is registered."""
        return {int(name) for name in await self._store.children(znodes.BROKER_IDS)}

    async def controller(self) -> int | None:
        """Who holds the office."""
        try:
            znode = await self._store.get(znodes.CONTROLLER)
        except NoNode:
            return None
        return znodes.ControllerZnode.decode(znode.data).broker_id

    async def state(self, topic: str, partition: int) -> znodes.LeaderAndIsr | None:
        """A partition's state; None where there is none."""
        path = znodes.partition_state_path(topic, partition)
        try:
            znode = await self._store.get(path)
        except NoNode:
            return None
        return znodes.LeaderAndIsr.decode(path, znode.data, znode.stat.version)

    async def lacking(self) -> str:
        """What a whole cluster has and this one has not; empty if nothing."""
        if await self.controller() is None:
            return "there is no controller"
        missing = set(self.ids) - await self.registered()
        if missing:
            return f"brokers {sorted(missing)} are not registered"
        for topic in await self._store.children(znodes.TOPICS):
            znode = await self._store.get(znodes.topic_path(topic))
            assigned = znodes.TopicAssignment.decode(topic, znode.data)
            for partition, replicas in assigned.partitions.items():
                state = await self.state(topic, partition)
                if state is None or state.leader == znodes.NO_LEADER:
                    return f"{topic}-{partition} has no leader"
                if set(state.isr) != set(replicas):
                    return f"{topic}-{partition} has ISR {list(state.isr)} of {list(replicas)}"
        return ""


def _copy(source: Path, target: Path) -> None:
    """What a crash leaves of a data directory. A thread that goes on may rename a file under our hands: again then."""
    for _ in range(COPIES_MAX):
        try:
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(LOCK))
            return
        except (shutil.Error, FileNotFoundError):
            shutil.rmtree(target, ignore_errors=True)
    raise OSError(f"{source} changes too quickly to be copied")
