"""A cluster in this process, for tests: several brokers on one event loop in one thread, and one store in memory.

What happens to real brokers can be done to these: they stop, die, hang, lose their session with the store. Each has
its log in a directory of its own and speaks with the others through sockets, as everywhere else; between any two of
them, and between each and its clients, lies a ``Relay``, which a test holds or breaks through the methods here.

Rules: every method returns once what it does is done. Leaving the context leaves no thread, no socket and, unless
the caller gave the directory, no file behind.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ottla.testing.loop_thread import LoopThread, UntilStopped
from ottla.testing.nodes import ClusterLoop, Node, Nodes

if TYPE_CHECKING:
    from ottla.broker.broker import Broker as Server
    from ottla.coordination.znodes import LeaderAndIsr

T = TypeVar("T")

START_TIMEOUT_S = 60.0
WAIT_S = 30.0
PAUSE_S = 0.01
SESSION_TIMEOUT_MS = 2_000


class Cluster:
    """Brokers 1 to ``brokers``, for a test::

        with Cluster(brokers=3) as cluster:
            producer = Producer(cluster.bootstrap)
            ...
            cluster.kill_leader("orders", 0)
            ...

    ``settings`` are Kafka's names, for all brokers. Unless they say otherwise, topics have as many replicas as there
    are brokers, three at most, and durability is ``os``. ``session_timeout_ms`` is how long the store waits for a
    broker that hangs or is dead. ``data`` keeps the logs in a directory of yours; else it is a temporary one.
    """

    def __init__(
        self,
        brokers: int = 3,
        settings: Mapping[str, object] | None = None,
        *,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        data: str | Path | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        if brokers < 1:
            raise ValueError(f"a cluster of {brokers} brokers")
        replicas = min(brokers, 3)
        self._settings: dict[str, object] = {
            "durability": "os",
            "default.replication.factor": replicas,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "zookeeper.session.timeout.ms": session_timeout_ms,
            **(settings or {}),
        }
        self._count = brokers
        self._session_timeout_ms = session_timeout_ms
        self._data = Path(data) if data is not None else None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._host = host
        self._thread = LoopThread(
            "ottla-cluster",
            self._serve,
            start_timeout_s=START_TIMEOUT_S,
            loop_factory=ClusterLoop,
        )
        self._nodes: Nodes | None = None

    # -- life

    def start(self) -> Self:
        """Start all brokers and wait until each is registered. Raises what a start raised."""
        if self._data is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="ottla-cluster-")
        try:
            self._thread.start()
        finally:
            if not self._thread.is_there:
                self._remove_temporary()
        return self

    def stop(self) -> None:
        """Stop all brokers cleanly and wait for that; a second call does nothing."""
        try:
            self._thread.stop()
        finally:
            self._remove_temporary()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    async def _serve(self, until_stopped: UntilStopped) -> None:
        home = self._data if self._data is not None else Path(self._directory())
        self._nodes = await Nodes.open(
            range(1, self._count + 1), home, self._host, self._settings, self._session_timeout_ms
        )
        try:
            await asyncio.gather(*(node.start() for node in self._nodes))
            await until_stopped()
        finally:
            await self._nodes.close()

    def _directory(self) -> str:
        assert self._temporary is not None
        return self._temporary.name

    def _ask(self, work: Callable[[Nodes], Coroutine[Any, Any, T]]) -> T:
        """Do something on the brokers' loop, and wait for it."""
        assert self._nodes is not None, "the cluster is not started"
        return self._thread.ask(work(self._nodes))

    def _node(self, broker: int) -> Node:
        assert self._nodes is not None, "the cluster is not started"
        return self._nodes[broker]

    # -- what can be seen

    @property
    def bootstrap(self) -> str:
        """All brokers' addresses, for a client's bootstrap servers; the same over all their lives."""
        assert self._nodes is not None, "the cluster is not started"
        return ",".join(node.address for node in self._nodes)

    def bootstrap_of(self, broker: int) -> str:
        """One broker's address."""
        return self._node(broker).address

    @property
    def brokers(self) -> list[int]:
        """The ids of all brokers, running or not."""
        return list(range(1, self._count + 1))

    @property
    def running(self) -> list[int]:
        """The ids of the brokers that are neither stopped nor dead (a paused one counts)."""
        return [broker for broker in self.brokers if self._node(broker).server is not None]

    def server(self, broker: int) -> Server:
        """The broker itself, for what a test wants to look at; it belongs to the cluster's loop."""
        server = self._node(broker).server
        assert server is not None, f"broker {broker} is not running"
        return server

    def data(self, broker: int) -> Path:
        """Where a broker has its log now: a killed one begins its next life in another directory."""
        return self._node(broker).data

    def registered(self) -> set[int]:
        """The brokers that the store takes for alive."""
        return self._ask(lambda nodes: nodes.registered())

    def controller(self, timeout: float = WAIT_S) -> int:
        """Who is the controller; waits for one that lives."""
        return self._wait_for(self._live_controller, "a controller", timeout)

    def leader(self, topic: str, partition: int = 0, timeout: float = WAIT_S) -> int:
        """Who leads a partition, as the store has it; waits for one that lives."""
        return self._wait_for(
            lambda: self._live_leader(topic, partition), f"a leader of {topic}-{partition}", timeout
        )

    def in_sync(self, topic: str, partition: int = 0) -> set[int]:
        """A partition's in-sync replicas, as the store has them."""
        state = self._state(topic, partition)
        return set(state.isr) if state is not None else set()

    def wait_until_whole(self, timeout: float = WAIT_S) -> None:
        """Wait until every broker is registered, and every partition has a leader and all its replicas in sync."""
        lacking = [""]

        def is_whole() -> bool:
            lacking[0] = self._ask(lambda nodes: nodes.lacking())
            return not lacking[0]

        try:
            self._wait_for(is_whole, "a whole cluster", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {lacking[0]}") from None

    def _live_controller(self) -> int | None:
        controller = self._ask(lambda nodes: nodes.controller())
        return controller if controller in self.registered() else None

    def _live_leader(self, topic: str, partition: int) -> int | None:
        state = self._state(topic, partition)
        if state is None or state.leader not in self.registered():
            return None
        return state.leader

    def _state(self, topic: str, partition: int) -> LeaderAndIsr | None:
        return self._ask(lambda nodes: nodes.state(topic, partition))

    @staticmethod
    def _wait_for(probe: Callable[[], T | None], what: str, timeout: float) -> T:
        deadline = time.monotonic() + timeout
        while True:
            found = probe()
            if found is not None and found is not False:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s: {what}")
            time.sleep(PAUSE_S)

    # -- what happens to brokers

    def stop_broker(self, broker: int) -> None:
        """Stop it as SIGTERM does: it hands its leaderships over first."""
        self._ask(lambda nodes: nodes[broker].stop())

    def start_broker(self, broker: int) -> None:
        """Start it on what its last life left."""
        self._ask(lambda nodes: nodes[broker].start())

    def kill_broker(self, broker: int, *, expire: bool = False) -> None:
        """End it as SIGKILL does: its connections break, its log is left as it is at this moment, and the store
        notices after the session timeout, or at once with ``expire``."""
        self._ask(lambda nodes: nodes[broker].kill(expire=expire))

    def kill_leader(self, topic: str, partition: int = 0, *, expire: bool = False) -> int:
        """Kill who leads a partition; returns its id."""
        broker = self.leader(topic, partition)
        self.kill_broker(broker, expire=expire)
        return broker

    def pause(self, broker: int) -> None:
        """Hold all its sockets and its session's heartbeats, as if it hung: it neither hears nor says anything.

        Its own time goes on. After the session timeout the store takes it for dead.
        """
        self._ask(lambda nodes: nodes.pause(broker))

    def resume(self, broker: int) -> None:
        """Let a paused broker go on."""
        self._ask(lambda nodes: nodes.resume(broker))

    def expire_session(self, broker: int) -> None:
        """Have the store end its session, while it is well: it loses all it held and comes anew."""
        self._ask(lambda nodes: nodes[broker].expire_session())
