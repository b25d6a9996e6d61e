"""Who is measured: how each is started for a kind of durability, and what it is asked before the measurement.

Kinds of durability, never mixed in one ratio:

- ``os``: an acknowledged record lies in the page cache on both sides (Ottla's ``durability=os``, Kafka's default).
- ``disk``: it is synced on every replica before its acknowledgement. Kafka's ``flush.messages=1`` does that, with a
  sync of the log and of both its indexes for each append: it has no group commit, and its documentation advises to
  leave that to replicas and the operating system. It is what Kafka has.
- ``defaults``: each as it comes, which is unequal: Ottla syncs and Kafka does not.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.broker_process import Connection, Frame, require_no_error
from bench.peers.processes import cpu_seconds, family, pss_mb
from ottla.errors import ErrorCode
from ottla.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.messages.delete_topics import DeleteTopicsRequest
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.apache_kafka import free_ports

KINDS = ("os", "disk", "defaults")
START_S = 120.0
STOP_S = 60.0
CLEAN_STOP_S = 600.0
POLL_S = 0.01
ROOT = Path(__file__).resolve().parents[2]
DELETE_DELAY_MS = "100"
"""A topic's files go right after its deletion, on all sides: one cell's are not written back during the next one."""


class Running:
    """A product that runs: one node or several. Ports and processes are by node, in the same order."""

    def __init__(self, name: str, ports: Sequence[int], directory: Path) -> None:
        self.name = name
        self.ports = list(ports)
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        """The brokers' own. What else they need (ZooKeeper) is in ``others``."""
        self.others: list[int] = []
        self.commands: list[list[str]] = []
        """With what its processes were started."""
        self.began = 0.0
        """When its first process was started, by ``time.perf_counter``."""

    @property
    def bootstrap(self) -> str:
        """For a client's ``bootstrap.servers``."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def pids(self) -> list[int]:
        """All processes that do its work."""
        return family([*(process.pid for process in self.processes), *self.others])

    def cpu_seconds(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(cpu_seconds(pid) for pid in self.pids())

    def pss_mb(self) -> float:
        """Proportional set size of all its processes together."""
        return sum(pss_mb(pid) for pid in self.pids())

    def anonymous_mb(self) -> float:
        """The anonymous part of it: heaps and stacks, no files."""
        return sum(pss_mb(pid, "Pss_Anon") for pid in self.pids())

    def connection(self, node: int = 0) -> Connection:
        """A plain connection to a node."""
        return Connection(self.ports[node])

    def ask(self, request: Any, version: int, node: int = 0) -> Any:
        """One request on a connection of its own."""
        connection = self.connection(node)
        try:
            return connection.answer(Frame(request, version))
        finally:
            connection.close()

    def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        replication_factor: int = 1,
        configs: Mapping[str, str] | None = None,
    ) -> list[int]:
        """Create a topic; the port of each partition's leader, once there are all of them."""
        wanted = CreatableTopic(
            name=topic,
            num_partitions=partitions,
            replication_factor=replication_factor,
            configs=[CreatableTopicConfig(name=n, value=v) for n, v in (configs or {}).items()],
        )
        request = CreateTopicsRequest(topics=[wanted], timeout_ms=30_000)
        answer = self.ask(request, 5, self._controller())
        require_no_error(answer.topics[0].error_code)
        return self.leaders(topic, partitions, replication_factor)

    def leaders(self, topic: str, partitions: int, replication_factor: int = 1) -> list[int]:
        """The port of each partition's leader, once every node knows all of them and all replicas are in sync."""
        deadline = time.monotonic() + START_S
        while True:
            found = [self._leaders(topic, node) for node in range(len(self.ports))]
            if all(
                len(one) == partitions
                and all(port and isr >= replication_factor for port, isr in one)
                for one in found
            ):
                ports = [port for port, _ in found[0]]
                if all(self._serves(topic, index, port) for index, port in enumerate(ports)):
                    return ports
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {topic} has not got its leaders: {found}")
            time.sleep(POLL_S)

    def in_sync(self, topic: str) -> list[int]:
        """How many replicas of each partition are in sync, as the first node knows it now."""
        return [isr for _, isr in self._leaders(topic, 0)]

    def _leaders(self, topic: str, node: int) -> list[tuple[int, int]]:
        request = MetadataRequest(
            topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False
        )
        answer = self.ask(request, 9, node)
        ports = {broker.node_id: broker.port for broker in answer.brokers}
        partitions = sorted(answer.topics[0].partitions, key=lambda one: one.partition_index)
        return [
            (0 if one.error_code else ports.get(one.leader_id, 0), len(one.isr_nodes))
            for one in partitions
        ]

    def _serves(self, topic: str, partition: int, port: int) -> bool:
        """Whether the leader knows that it is: metadata may say so a little before."""
        return not self._end(topic, partition, self.ports.index(port)).error_code

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """How many records a partition of the first node has had."""
        found = self._end(topic, partition, 0)
        require_no_error(found.error_code)
        end: int = found.offset
        return end

    def _end(self, topic: str, partition: int, node: int) -> Any:
        """A node's answer to what its partition's end is."""
        asked = ListOffsetsPartition(partition_index=partition, timestamp=-1)
        request = ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])]
        )
        return self.ask(request, 6, node).topics[0].partitions[0]

    def delete_topic(self, topic: str) -> None:
        """Delete it, and wait until its files are gone."""
        request = DeleteTopicsRequest(topic_names=[topic], timeout_ms=30_000)
        (answer,) = self.ask(request, 4, self._controller()).responses
        if answer.error_code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            require_no_error(answer.error_code)
        deadline = time.monotonic() + STOP_S
        while self._has_files(topic):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {topic}'s files are still there")
            time.sleep(POLL_S)

    def _has_files(self, topic: str) -> bool:
        try:
            return any(
                any(self.directory.rglob(pattern))
                for pattern in (f"{topic}-*/*.log", f"{topic}.*-delete")
            )
        except FileNotFoundError:  # a directory went while it was looked into
            return True

    def _controller(self) -> int:
        answer = self.ask(MetadataRequest(topics=[], allow_auto_topic_creation=False), 9)
        ports = {broker.node_id: broker.port for broker in answer.brokers}
        port = ports.get(answer.controller_id)
        return self.ports.index(port) if port in self.ports else 0

    def await_ready(self) -> None:
        """Return once every node answers and knows all of them. Raises ``RuntimeError`` where a process has ended."""
        deadline = time.monotonic() + START_S
        while not self._ready():
            self.require_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not get ready:\n{self.last_words()}")
            time.sleep(POLL_S)

    def require_alive(self) -> None:
        """Raise ``RuntimeError`` where one of its processes has ended."""
        if any(process.poll() is not None for process in self.processes):
            raise RuntimeError(f"{self.name} has ended:\n{self.last_words()}")

    def _ready(self) -> bool:
        for port in self.ports:
            try:
                connection = Connection(port, wait=False)
            except OSError:
                return False
            try:
                request = MetadataRequest(topics=[], allow_auto_topic_creation=False)
                answer = connection.answer(Frame(request, 9))
            except (OSError, ConnectionError):
                return False
            finally:
                connection.close()
            if len(answer.brokers) != len(self.ports) or answer.controller_id < 0:
                return False
        return True

    def last_words(self) -> str:
        """The ends of what its processes wrote."""
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(f"-- {path.name}\n{path.read_text()[-2000:]}" for path in logs)

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Start one of its processes; its pid."""
        with (self.directory / f"{name}.log").open("ab") as output:
            self.began = self.began or time.perf_counter()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_environment(), **environment},
                start_new_session=True,
            )
        self.processes.append(process)
        self.commands.append(list(command))
        return process.pid

    def started_with(self) -> str:
        """The first process's command, and the settings in the files that it names; places and ports by word."""
        if not self.commands:
            return ""
        command = self.commands[0]
        lines = [" ".join(command)]
        for argument in command:
            if argument.endswith(".properties") and Path(argument).parent == self.directory:
                lines += Path(argument).read_text().splitlines()
        told = "\n".join(lines).replace(str(self.directory), "DIRECTORY")
        told = told.replace(sys.executable, "python").replace(str(ROOT), "REPOSITORY")
        told = told.replace(str(Path.home()), "~")
        for index, port in enumerate(self.ports):
            told = told.replace(str(port), f"PORT-{index + 1}")
        return told

    def stop_cleanly(self) -> None:
        """End all processes by SIGTERM, as a service manager does, and wait until they have stopped."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(CLEAN_STOP_S)
        self.processes.clear()

    def stop(self) -> None:
        """End all processes by SIGKILL. Nobody needs what they hold."""
        for process in self.processes:
            for pid in family([process.pid]):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for process in self.processes:
            process.wait(STOP_S)
        self.processes.clear()


class Product(ABC):
    """A product, and how it is started."""

    name: str
    """As tables have it."""
    durabilities: tuple[str, ...] = KINDS

    @abstractmethod
    def version(self) -> str:
        """Of what is installed here. Raises ``RuntimeError`` where it is not to be had."""

    @abstractmethod
    def start(
        self,
        directory: Path,
        durability: str,
        nodes: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> Running:
        """Start it with its data in ``directory``, without waiting for it. ``settings`` are Kafka's names.

        The directory may have been used before, here or elsewhere, by as many nodes.
        """

    def prepare(self, directory: Path) -> None:
        """Do what has to be done once, before one node's first start in a new directory, if there is any."""
        del directory

    @contextmanager
    def running(
        self,
        durability: str,
        nodes: int = 1,
        settings: Mapping[str, str] | None = None,
        place: Path | None = None,
    ) -> Iterator[Running]:
        """It, ready, as long as the context."""
        directory = Path(tempfile.mkdtemp(prefix=f"ottla-peer-{type(self).__name__}-", dir=place))
        started = None
        try:
            started = self.start(directory, durability, nodes, settings)
            started.await_ready()
            yield started
        finally:
            if started is not None:
                started.stop()
            shutil.rmtree(directory, ignore_errors=True)


class Ottla(Product):
    """Ours. ``bench.peers.clusters`` has several nodes, with a ZooKeeper ensemble."""

    name = "Ottla"

    def __init__(self, brokers: int = 1) -> None:
        """``brokers``: processes of one node, as ``ottla serve --brokers`` starts them; each has a port."""
        self._brokers = brokers
        if brokers > 1:
            self.name = f"Ottla, --brokers {brokers}"

    def version(self) -> str:
        return metadata.version("ottla")

    def start(
        self,
        directory: Path,
        durability: str,
        nodes: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> Running:
        if nodes != 1:
            raise NotImplementedError("bench.peers.clusters starts several")
        running = Running(self.name, free_ports(self._brokers), directory)
        command = self.command(directory / "data", running.ports[0], durability, settings)
        if self._brokers > 1:
            command.append(f"--brokers={self._brokers}")
            command += [f"--listen=127.0.0.1:{port}" for port in running.ports[1:]]
        running.run("ottla", command, {})
        return running

    @staticmethod
    def command(
        data: Path, port: int, durability: str, settings: Mapping[str, str] | None
    ) -> list[str]:
        """The command line of one broker."""
        chosen = {"log.segment.delete.delay.ms": DELETE_DELAY_MS}
        if durability != "defaults":
            chosen["durability"] = durability
        command = [sys.executable, "-m", "ottla", "serve", "--data", str(data)]
        command += ["--listen", f"127.0.0.1:{port}"]
        return command + [f"--set={n}={v}" for n, v in (chosen | dict(settings or {})).items()]


KAFKA_JVM = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
"""What ``kafka-run-class.sh`` gives a server."""
KAFKA_HEAP = "1g"
KAFKA_SMALLEST_HEAP = "96m"
"""The smallest with which it passes every time: with 48 MB it starts at times, and else runs out of memory."""
KAFKA_SMALL_SETTINGS = {"log.cleaner.dedupe.buffer.size": "8388608"}
"""What such a heap needs: the default is 128 MB at once. With all defaults the smallest heap is 192 MB."""
CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"


class ApacheKafka(Product):
    """Apache Kafka in KRaft mode, each node broker and controller in one, with the JVM options of its own scripts."""

    def __init__(self, heap: str = KAFKA_HEAP, settings: Mapping[str, str] | None = None) -> None:
        self._heap = heap
        self._own = dict(settings or {})
        self.name = "Apache Kafka" if heap == KAFKA_HEAP else f"Apache Kafka, {heap} heap"

    @classmethod
    def smallest(cls) -> ApacheKafka:
        """With the smallest heap that passes."""
        return cls(KAFKA_SMALLEST_HEAP, KAFKA_SMALL_SETTINGS)

    @property
    def remark(self) -> str:
        """What is not as its scripts have it."""
        changed = [f"{name}={value}" for name, value in self._own.items()]
        return ", ".join([f"a heap of {self._heap}", *changed])

    def version(self) -> str:
        from tests.support.java import version

        return version()

    def start(
        self,
        directory: Path,
        durability: str,
        nodes: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> Running:
        ports = free_ports(2 * nodes)
        running = Running(self.name, ports[:nodes], directory)
        voters = ",".join(f"{i + 1}@127.0.0.1:{ports[nodes + i]}" for i in range(nodes))
        for index in range(nodes):
            properties = directory / f"node-{index + 1}.properties"
            chosen = self._settings(directory, index, ports, nodes, voters)
            if durability == "disk":
                chosen["log.flush.interval.messages"] = "1"
            chosen |= self._own | dict(settings or {})
            _write_properties(properties, chosen)
            if (directory / f"data-{index + 1}" / "meta.properties").exists():
                main = ["kafka.Kafka", str(properties)]
            else:
                main = ["KafkaNode", CLUSTER_ID, str(properties)]
            running.run(f"node-{index + 1}", [*self._java(), *main], {})
        return running

    def prepare(self, directory: Path) -> None:
        """``kafka-storage.sh format``. Where nobody has, ``start`` has the node's process do so first."""
        properties = directory / "format.properties"
        ports = free_ports(2)
        voters = f"1@127.0.0.1:{ports[1]}"
        _write_properties(properties, self._settings(directory, 0, ports, 1, voters))
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        subprocess.run([*self._java(), *tool], check=True, capture_output=True)

    def _java(self) -> list[str]:
        """The JVM of a node, with its class path."""
        from tests.support.java import LOGGING, classes, jars, program

        command = [program("java", "default-jdk-headless"), *KAFKA_JVM]
        command += [f"-Xms{self._heap}", f"-Xmx{self._heap}"]
        return [*command, f"-Dlog4j2.configurationFile={LOGGING}", "-cp", f"{classes()}:{jars()}/*"]

    @staticmethod
    def _settings(
        directory: Path, index: int, ports: Sequence[int], nodes: int, voters: str
    ) -> dict[str, str]:
        """What a node of so many needs; everything else is Kafka's default."""
        listener = f"PLAINTEXT://127.0.0.1:{ports[index]}"
        factor = str(min(3, nodes))
        return {
            "process.roles": "broker,controller",
            "node.id": str(index + 1),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": voters,
            "listeners": f"{listener},CONTROLLER://127.0.0.1:{ports[nodes + index]}",
            "advertised.listeners": listener,
            "log.dirs": str(directory / f"data-{index + 1}"),
            "offsets.topic.replication.factor": factor,
            "share.coordinator.state.topic.replication.factor": factor,
            "share.coordinator.state.topic.min.isr": "1",
            "transaction.state.log.replication.factor": factor,
            "transaction.state.log.min.isr": "1",
            "log.segment.delete.delay.ms": DELETE_DELAY_MS,
        }


def _write_properties(path: Path, settings: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _environment() -> dict[str, str]:
    """As an installed package has it: no start compiles its modules first."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
