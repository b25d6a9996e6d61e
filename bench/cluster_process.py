"""What the cluster's benchmarks share: an ensemble, brokers as processes, and an observer that is none of theirs.

The observer is a ZooKeeper client of its own (kazoo), with a session that has nothing to do with any broker's: it
sees what happens when the ensemble tells it, as any other watcher does. Times are of ``CLOCK_MONOTONIC``, which
all processes of a machine share. What a znode says of its own time (ctime, mtime) is the ensemble's wall clock,
of the same machine, in whole milliseconds, rounded down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bench.broker_process import DEADLINE_S, Connection, Frame, require_no_error
from ottla.errors import ErrorCode
from ottla.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.messages.elect_leaders import ElectLeadersRequest
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.ports import HeldPorts
from tests.support.zookeeper import Ensemble

SESSION_TIMEOUT_MS = 4_000
POLL_S = 0.005
BROKER_IDS = (1, 2, 3)

_T = TypeVar("_T")


class PartitionState(NamedTuple):
    """A partition's state znode, and when it was last written (``time.time()``)."""

    leader: int
    isr: tuple[int, ...]
    written: float


def wait_for(
    probe: Callable[[], _T | None],
    what: str,
    deadline_s: float = DEADLINE_S,
    every_s: float = POLL_S,
) -> _T:
    """The first answer that is not None; raises ``TimeoutError``."""
    deadline = time.monotonic() + deadline_s
    while (answer := probe()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_s} s: {what}")
        time.sleep(every_s)
    return answer


class Observer:
    """Who looks at the znodes from outside."""

    def __init__(self, hosts: str) -> None:
        from kazoo.client import KazooClient

        self._client = KazooClient(hosts=hosts, timeout=10.0)
        self._client.start(timeout=DEADLINE_S)

    def close(self) -> None:
        """End the session."""
        self._client.stop()
        self._client.close()

    def broker_ids(self) -> list[int]:
        """The brokers that are registered."""
        if self._client.exists("/brokers/ids") is None:
            return []
        return sorted(int(name) for name in self._client.get_children("/brokers/ids"))

    def controller(self) -> tuple[int, float] | None:
        """Who holds the office, and since when (``time.time()``); None while nobody does."""
        from kazoo.exceptions import NoNodeError

        try:
            data, stat = self._client.get("/controller")
        except NoNodeError:
            return None
        return json.loads(data)["brokerid"], stat.ctime / 1000

    def deletion(self, broker_id: int) -> Event:
        """When the broker's registration goes: an event that will have the time at which this watcher was told."""
        gone = Event()
        self._client.exists(f"/brokers/ids/{broker_id}", watch=lambda _: gone.set())
        return gone

    def states(self, partitions: Sequence[tuple[str, int]]) -> list[PartitionState]:
        """The state of each partition, read without waiting for one after the other."""
        asked = [
            self._client.get_async(f"/brokers/topics/{topic}/partitions/{index}/state")
            for topic, index in partitions
        ]
        found = []
        for answer in asked:
            data, stat = answer.get(timeout=DEADLINE_S)
            fields = json.loads(data)
            found.append(PartitionState(fields["leader"], tuple(fields["isr"]), stat.mtime / 1000))
        return found


class Event:
    """Something that happens once; ``at`` is when, in ``time.monotonic()``."""

    def __init__(self) -> None:
        self._happened = threading.Event()
        self.at = 0.0

    def set(self) -> None:
        """It happens now."""
        self.at = time.monotonic()
        self._happened.set()

    def wait(self, timeout_s: float = DEADLINE_S) -> float:
        """Its time, as soon as it has happened; raises ``TimeoutError``."""
        if not self._happened.wait(timeout_s):
            raise TimeoutError(f"it did not happen within {timeout_s} s")
        return self.at


class Cluster:
    """Brokers as processes on one ensemble. ``settings`` are Kafka's, ``NAME=VALUE``."""

    def __init__(
        self,
        directory: Path,
        zookeeper: str,
        observer: Observer,
        ports: dict[int, int],
        settings: Iterable[str] = (),
    ) -> None:
        """``ports`` of the brokers, by their ids."""
        self._directory = directory
        self._zookeeper = zookeeper
        self.observer = observer
        self._settings = [f"zookeeper.session.timeout.ms={SESSION_TIMEOUT_MS}", *settings]
        self.ports = ports
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def bootstrap(self) -> str:
        """All brokers' addresses."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def data(self, broker_id: int) -> Path:
        """Its data directory."""
        return self._directory / f"broker-{broker_id}"

    def start(self, broker_id: int) -> None:
        """Start the process, and wait for nothing."""
        command = [sys.executable, "-m", "ottla", "serve", "--zookeeper", self._zookeeper]
        command += ["--node-id", str(broker_id), "--data", str(self.data(broker_id))]
        command += ["--listen", f"127.0.0.1:{self.ports[broker_id]}"]
        command += [f"--set={setting}" for setting in self._settings]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        with (self._directory / f"broker-{broker_id}.log").open("ab") as output:
            self.processes[broker_id] = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment
            )

    def start_all(self) -> None:
        """Start all of them, and wait until each is registered and knows of the others."""
        for broker_id in self.ports:
            if broker_id not in self.processes:
                self.start(broker_id)
        self.await_registered()

    def await_registered(self) -> None:
        """Return once every broker is registered, and each one's metadata has them all and a controller."""
        wanted = set(self.ports)

        def everybody() -> bool | None:
            for broker_id, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(
                        f"broker {broker_id} has ended: {self.last_words(broker_id)}"
                    )
            if set(self.observer.broker_ids()) != wanted:
                return None
            try:
                found = [self.ask(broker_id, _BROKERS) for broker_id in wanted]
            except OSError:
                return None
            known = all({one.node_id for one in answer.brokers} == wanted for answer in found)
            return True if known and all(a.controller_id in wanted for a in found) else None

        wait_for(everybody, "every broker is registered and knows of the others")

    def last_words(self, broker_id: int) -> str:
        """The end of what the broker logged."""
        path = self._directory / f"broker-{broker_id}.log"
        return path.read_text()[-2000:] if path.exists() else ""

    def ask(self, broker_id: int, frame: Frame) -> Any:
        """One request on a connection of its own; raises ``OSError``."""
        connection = Connection(self.ports[broker_id], wait=False)
        try:
            return connection.answer(frame)
        finally:
            connection.close()

    def signal(self, broker_id: int, number: signal.Signals) -> float:
        """Send a broker a signal; when that was."""
        at = time.monotonic()
        self.processes[broker_id].send_signal(number)
        return at

    def await_end(self, broker_id: int) -> float:
        """Wait for the process's end; when that was seen."""
        self.processes.pop(broker_id).wait(DEADLINE_S)
        return time.monotonic()

    def controller_id(self) -> int:
        """The broker in office, as ZooKeeper has it."""
        return wait_for(self.observer.controller, "a controller")[0]

    def create(
        self, topics: dict[str, list[list[int]]], configs: dict[str, str] | None = None
    ) -> None:
        """Create topics with these replicas, partition by partition; what is written is as old as the benchmarks."""
        configs = {"retention.ms": "-1", **(configs or {})}
        request = CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=name,
                    num_partitions=-1,
                    replication_factor=-1,
                    assignments=[
                        CreatableReplicaAssignment(partition_index=index, broker_ids=replicas)
                        for index, replicas in enumerate(assignment)
                    ],
                    configs=[
                        CreatableTopicConfig(name=key, value=value)
                        for key, value in configs.items()
                    ],
                )
                for name, assignment in topics.items()
            ],
            timeout_ms=60_000,
        )
        answer = self.ask(self.controller_id(), Frame(request, 7))
        for topic in answer.topics:
            require_no_error(topic.error_code)

    def elect_preferred(self) -> None:
        """Have every partition led by the first of its replicas, where that is not so yet."""
        request = ElectLeadersRequest(election_type=0, topic_partitions=None, timeout_ms=60_000)
        answer = self.ask(self.controller_id(), Frame(request, 2))
        require_no_error(answer.error_code)
        for topic in answer.replica_election_results:
            for partition in topic.partition_result:
                if partition.error_code != ErrorCode.ELECTION_NOT_NEEDED:
                    require_no_error(partition.error_code)

    def await_in_sync(
        self, partitions: Sequence[tuple[str, int]], replicas: int = 3
    ) -> list[PartitionState]:
        """The states, once every partition has a leader and all its replicas in the ISR."""

        def complete() -> list[PartitionState] | None:
            # The last one first: it alone is read until it is complete.
            if len(self.observer.states(partitions[-1:])[0].isr) < replicas:
                return None
            states = self.observer.states(partitions)
            if all(len(one.isr) >= replicas and one.leader >= 0 for one in states):
                return states
            time.sleep(0.1)
            return None

        return wait_for(complete, "every replica is in sync")

    def stop(self) -> None:
        """End every process at once: nobody needs what they hold."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(DEADLINE_S)
        self.processes.clear()


_BROKERS = Frame(MetadataRequest(topics=[], allow_auto_topic_creation=False), 9)


def metadata_frame(topics: Iterable[str]) -> Frame:
    """Metadata of these topics."""
    asked = [MetadataRequestTopic(name=name) for name in topics]
    return Frame(MetadataRequest(topics=asked, allow_auto_topic_creation=False), 9)


@contextmanager
def cluster(
    directory: Path, *settings: str, broker_ids: Sequence[int] = BROKER_IDS
) -> Iterator[Cluster]:
    """Three ZooKeeper servers and brokers on them, up; killed at the end."""
    with Ensemble(3, forces_sync=True) as ensemble:  # as an ensemble in earnest has it
        held = HeldPorts(len(broker_ids))
        observer = Observer(ensemble.connect)
        ports = dict(zip(broker_ids, held.ports, strict=True))
        made = Cluster(directory, ensemble.connect, observer, ports, settings)
        try:
            made.start_all()
            yield made
        except BaseException:
            for broker_id in made.ports:
                print(f"-- broker {broker_id}, the last it said\n{made.last_words(broker_id)}")
            raise
        finally:
            made.stop()
            observer.close()
            held.release()
