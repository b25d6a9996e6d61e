"""A cluster of real processes: ``ottla serve --zookeeper`` three times, beside a real ensemble.

``ClusterProcesses`` starts, stops, kills and pauses brokers by their id, and says what ZooKeeper says of them. Ports
and data directories stay a broker's own over all its lives. With ``proxied``, every connection of a broker to
ZooKeeper and of anybody to the broker goes through a ``PortProxy``, which can hold it.

What the brokers log (DEBUG) is in ``directory/broker-N.log``, over all their lives.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ottla.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from tests.cluster.checker import NO_LEADER, State
from tests.cluster.namespaces import Namespaces, host_of
from tests.cluster.zookeeper_view import ZooKeeperView
from tests.crash.checker import Partition
from tests.crash.process import BrokerProcess
from tests.interop.raw import RawClient
from tests.support.port_proxy import PortProxy
from tests.support.ports import HeldPorts
from tests.support.waiting import eventually
from tests.support.zookeeper import Ensemble

BROKERS = (1, 2, 3)
SESSION_TIMEOUT_MS = 2_000
CALM_S = 60.0
"""How long a cluster may take to be whole again: its logs recovered, followers caught up, a leader everywhere."""

SETTINGS: dict[str, object] = {
    "zookeeper.session.timeout.ms": SESSION_TIMEOUT_MS,
    "replica.lag.time.max.ms": 3_000,
    "replica.fetch.wait.max.ms": 200,
    "replica.fetch.backoff.ms": 100,
    "replica.socket.timeout.ms": 3_000,
    "replica.high.watermark.checkpoint.interval.ms": 300,
    "controller.socket.timeout.ms": 3_000,
    "min.insync.replicas": 2,
    "default.replication.factor": 3,
    "offsets.topic.num.partitions": 4,
    "offsets.topic.replication.factor": 3,
    "log.retention.ms": -1,
    "log.segment.bytes": 262_144,
    "log.flush.offset.checkpoint.interval.ms": 300,
    "group.initial.rebalance.delay.ms": 0,
}


class Placement(NamedTuple):
    """Where a broker runs."""

    servers: str
    """The ZooKeeper servers, as this broker reaches them."""
    reached: str
    """The broker, as clients reach it."""
    settings: Mapping[str, object] = {}
    host: str = "127.0.0.1"
    inside: Sequence[str] = ()


def _placed_in(namespaces: Namespaces, node: int, port: int, ensemble: Ensemble) -> Placement:
    """A broker in its namespace: one listener for the others, one for the clients outside."""
    host = host_of(node)
    outs = [namespaces.way_out(("127.0.0.1", server.port)) for server in ensemble.servers]
    reached = "{}:{}".format(*namespaces.way_in((host, port)))
    return Placement(
        ",".join(f"{address}:{out}" for address, out in outs),
        reached,
        {
            "listeners": f"PLAINTEXT://{host}:{port},BROKERS://{host}:{port + 1}",
            "advertised.listeners": f"PLAINTEXT://{reached},BROKERS://{host}:{port + 1}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,BROKERS:PLAINTEXT",
            "inter.broker.listener.name": "BROKERS",
        },
        host,
        ("ip", "netns", "exec", namespaces.of(node)),
    )


class ClusterProcesses:
    """Brokers 1, 2 and 3 in processes of their own, as long as the context lasts."""

    def __init__(
        self,
        directory: Path,
        ensemble: Ensemble,
        settings: Mapping[str, object] | None = None,
        *,
        brokers: Sequence[int] = BROKERS,
        proxied: bool = False,
        namespaces: Namespaces | None = None,
        data: Mapping[int, Path] | None = None,
    ) -> None:
        """``settings`` in place of ``SETTINGS``; ``namespaces``: where each broker has its own;
        ``data``: directories for brokers that are not below ``directory``."""
        self.directory = directory
        self.ensemble = ensemble
        connect = ensemble.fresh_chroot()
        self._servers, slash, path = connect.partition("/")
        self._chroot = slash + path
        self.zookeeper = ZooKeeperView(connect)
        self._exits = contextlib.ExitStack()
        self._ports = HeldPorts(len(brokers))
        self.to_zookeeper: dict[int, list[PortProxy]] = {}
        self.to_broker: dict[int, PortProxy] = {}
        self.brokers: dict[int, BrokerProcess] = {}
        self._reached: dict[int, str] = {}
        self.paused: set[int] = set()
        own = {**SETTINGS, **(settings or {})}
        for node, port in zip(brokers, self._ports.ports, strict=True):
            place = self._place(node, port, proxied=proxied, namespaces=namespaces)
            self._reached[node] = place.reached
            self.brokers[node] = BrokerProcess(
                (data or {}).get(node, directory / f"data-{node}"),
                directory / f"broker-{node}.log",
                {**own, **place.settings},
                {"OTTLA_LOG_LEVEL": "DEBUG"},
                options=("--zookeeper", place.servers + self._chroot, "--node-id", str(node)),
                host=place.host,
                port=port,
                inside=place.inside,
            )

    def _place(
        self, node: int, port: int, *, proxied: bool, namespaces: Namespaces | None
    ) -> Placement:
        if namespaces is not None:
            return _placed_in(namespaces, node, port, self.ensemble)
        if not proxied:
            return Placement(self._servers, f"127.0.0.1:{port}")
        servers = self._proxies_to_zookeeper(node)
        proxy = self._exits.enter_context(PortProxy())
        proxy.target = ("127.0.0.1", port)
        self.to_broker[node] = proxy
        reached = f"127.0.0.1:{proxy.port}"
        return Placement(servers, reached, {"advertised.listeners": f"PLAINTEXT://{reached}"})

    def _proxies_to_zookeeper(self, node: int) -> str:
        """Proxies of a broker's own, one a server; what it connects to."""
        proxies = []
        for server in self.ensemble.servers:
            proxy = self._exits.enter_context(PortProxy())
            proxy.target = ("127.0.0.1", server.port)
            proxies.append(proxy)
        self.to_zookeeper[node] = proxies
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start all brokers and wait until they are registered."""
        for broker in self.brokers.values():
            broker.start()
        for broker in self.brokers.values():
            broker.wait_until_ready()
        self.zookeeper.start()
        eventually(
            lambda: self.zookeeper.brokers() == set(self.brokers), "all brokers are registered"
        )

    def close(self) -> None:
        """Kill whatever still runs."""
        for broker in self.brokers.values():
            broker.kill()
        self.zookeeper.close()
        self._exits.close()
        self._ports.release()

    # What brokers suffer

    def stop_broker(self, node: int) -> None:
        """SIGTERM, and wait for its clean end."""
        broker = self.brokers[node]
        broker.signal(signal.SIGTERM)
        code = broker.wait()
        assert code == 0, f"broker {node} ended with {code}: {broker.output}"

    def kill_broker(self, node: int) -> None:
        """SIGKILL."""
        self.brokers[node].kill()
        self.paused.discard(node)

    def start_broker(self, node: int) -> None:
        """Start it again on what its last life left, and wait until it takes requests."""
        self.brokers[node].start()
        self.brokers[node].wait_until_ready()

    def pause(self, node: int) -> None:
        """SIGSTOP."""
        self.brokers[node].signal(signal.SIGSTOP)
        self.paused.add(node)

    def resume(self, node: int) -> None:
        """SIGCONT."""
        self.brokers[node].signal(signal.SIGCONT)
        self.paused.discard(node)

    def kill_leader(self, topic: str, partition: int = 0) -> int:
        """SIGKILL for who leads a partition; who it was."""
        node = self.leader(topic, partition)
        self.kill_broker(node)
        return node

    def expire_session(self, node: int) -> None:
        """Have ZooKeeper end the broker's session, and wait until its registration is another."""
        self.zookeeper.expire_session_of(node)

    def is_running(self, node: int) -> bool:
        """Whether there is a process (a paused one counts)."""
        return self.brokers[node].exit_code() is None

    def cut_from_zookeeper(self, node: int) -> None:
        """Nothing between the broker and ZooKeeper arrives any more."""
        for proxy in self.to_zookeeper[node]:
            proxy.hold()

    def cut_from_others(self, node: int) -> None:
        """Nothing from clients and other brokers arrives at the broker, and no answer from it."""
        self.to_broker[node].hold()

    def heal(self) -> None:
        """Resume what is paused, release what is held, start what is down."""
        for node in sorted(self.paused):
            self.resume(node)
        for proxy in (
            *(p for ps in self.to_zookeeper.values() for p in ps),
            *self.to_broker.values(),
        ):
            proxy.release()
        for server in self.ensemble.servers:
            if not server.is_running:
                server.start()
        down = [node for node in self.brokers if not self.is_running(node)]
        for node in down:
            self.brokers[node].start()
        for node in down:
            self.brokers[node].wait_until_ready()

    # What can be seen of them

    @property
    def bootstrap(self) -> str:
        """All brokers, as clients are to reach them."""
        return ",".join(self._reached.values())

    def bootstrap_of(self, node: int) -> str:
        """One broker, as clients are to reach it."""
        return self._reached[node]

    def leader(self, topic: str, partition: int = 0) -> int:
        """Who leads a partition; waits until somebody who lives does."""

        def led() -> int | None:
            state = self.zookeeper.state((topic, partition))
            live = state is not None and state.leader in self.zookeeper.brokers()
            return state.leader if state is not None and live else None

        return eventually(led, f"{topic}-{partition} is led") or 0

    def controller(self) -> int:
        """Who is the controller; waits until there is one."""
        found = eventually(lambda: self.zookeeper.controller() is not None, "there is a controller")
        assert found
        controller = self.zookeeper.controller()
        return self.controller() if controller is None else controller

    def in_sync(self, topic: str, partition: int = 0) -> set[int]:
        """A partition's in-sync replicas."""
        state = self.zookeeper.state((topic, partition))
        return set(state.isr) if state is not None else set()

    def registered(self) -> set[int]:
        """The brokers that ZooKeeper takes for alive."""
        return self.zookeeper.brokers()

    def follower(self, topic: str, partition: int) -> int:
        """The first of a partition's replicas that does not lead it."""
        leader = self.leader(topic, partition)
        state = self.zookeeper.state((topic, partition))
        assert state is not None
        return next(node for node in state.replicas if node != leader)

    def wait_until_whole(self, topics: Iterable[str] | None = None) -> None:
        """Return once there is a controller, all brokers live, and every ISR has all replicas."""
        wanted = None if topics is None else set(topics)

        def missing() -> str:
            view = self.zookeeper
            if view.controller() is None:
                return "no controller"
            if view.brokers() != set(self.brokers):
                return f"only brokers {sorted(view.brokers())} are registered"
            for partition, state in view.states().items():
                if wanted is not None and partition[0] not in wanted:
                    continue
                if state.leader == NO_LEADER or set(state.isr) != set(state.replicas):
                    return f"{partition} has {state}"
            return ""

        last = [""]

        def whole() -> bool:
            last[0] = missing()
            return not last[0]

        try:
            eventually(whole, "the cluster is whole", CALM_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last[0]} ({self.directory})") from None

    def wait_until_isr(self, partition: Partition, wanted: set[int]) -> None:
        """Return once a partition's ISR is exactly this."""

        def holds() -> bool:
            state = self.zookeeper.state(partition)
            return state is not None and set(state.isr) == wanted

        eventually(holds, f"the ISR of {partition} is {wanted}", CALM_S)

    def create_topic(self, name: str, partitions: int = 1, **settings: object) -> None:
        """Create a topic with three replicas and wait until its leaders are known; underscores stand for dots."""
        configs = [
            CreatableTopicConfig(name=key.replace("_", "."), value=str(value))
            for key, value in settings.items()
        ]
        new = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=len(self.brokers),
            configs=configs,
        )
        with RawClient(self.bootstrap_of(self.controller())) as raw:
            answer = raw.call(CreateTopicsRequest(topics=[new], timeout_ms=20_000), 7)
        assert answer.topics[0].error_code == 0, answer.topics[0]
        places = {(name, partition) for partition in range(partitions)}
        eventually(lambda: places <= self.zookeeper.states().keys(), f"{name} is there")
        self.wait_until_whole([name])

    def log_directory(self, node: int, partition: Partition) -> Path:
        """Where a broker keeps a partition."""
        return self.brokers[node].data / f"{partition[0]}-{partition[1]}"

    def states_seen(self) -> list[State]:
        """All that was seen of partitions' states, in its order."""
        return self.zookeeper.seen()

    def events(self, node: int, event: str | None = None) -> Iterator[dict[str, Any]]:
        """What a broker has logged, over all its lives."""
        path = self.brokers[node].output
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                found = json.loads(line)
                if event is None or found.get("event") == event:
                    yield found

    def tracebacks(self) -> list[str]:
        """Exceptions that no broker expected."""
        faults = []
        for node, broker in self.brokers.items():
            printed = broker.output.read_text(errors="replace") if broker.output.exists() else ""
            found = re.search(r"[^\n]*(Traceback|never retrieved|was never awaited)[^\n]*", printed)
            if found is not None:
                faults.append(f"traceback: broker {node}: {found[0][:2000]} ({broker.output})")
        return faults
