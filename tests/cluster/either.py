"""What a test may do to a cluster, whichever it is: brokers of this process over the embedded store, or real ones over a store of this
machine or ZooKeeper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ottla import Admin
from ottla.testing import Cluster
from tests.cluster.local import LocalProcesses
from tests.cluster.processes import BROKERS, SESSION_TIMEOUT_MS, SETTINGS, ClusterProcesses
from tests.support.waiting import eventually
from tests.support.zookeeper import Ensemble


class AnyCluster(Protocol):
    """Brokers 1, 2 and 3."""

    @property
    def bootstrap(self) -> str: ...

    def bootstrap_of(self, broker: int, /) -> str: ...

    def leader(self, topic: str, partition: int = 0, /) -> int: ...

    def in_sync(self, topic: str, partition: int = 0, /) -> set[int]: ...

    def controller(self) -> int: ...

    def registered(self) -> set[int]: ...

    def wait_until_whole(self) -> None: ...

    def stop_broker(self, broker: int, /) -> None: ...

    def start_broker(self, broker: int, /) -> None: ...

    def kill_broker(self, broker: int, /) -> None: ...

    def kill_leader(self, topic: str, partition: int = 0, /) -> int: ...

    def pause(self, broker: int, /) -> None: ...

    def resume(self, broker: int, /) -> None: ...

    def expire_session(self, broker: int, /) -> None: ...


@contextmanager
def embedded(settings: Mapping[str, object]) -> Iterator[AnyCluster]:
    """Brokers of this process."""
    of_brokers = {**SETTINGS, **settings}
    with Cluster(len(BROKERS), of_brokers, session_timeout_ms=SESSION_TIMEOUT_MS) as cluster:
        yield cluster


@contextmanager
def local(settings: Mapping[str, object], directory: Path) -> Iterator[AnyCluster]:
    """Processes and one store on this machine."""
    with LocalProcesses(directory, settings) as cluster:
        yield cluster


@contextmanager
def zookeeper(
    settings: Mapping[str, object], directory: Path, ensemble: Ensemble
) -> Iterator[AnyCluster]:
    """Processes and a real ensemble."""
    with ClusterProcesses(directory, ensemble, settings) as cluster:
        yield cluster


def create_topic(cluster: AnyCluster, name: str, partitions: int = 1, **settings: Any) -> None:
    """A topic with a replica on every broker, all in sync; settings with underscores for dots."""
    config = {key.replace("_", "."): str(value) for key, value in settings.items()}
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic(name, partitions, len(BROKERS), config)
    for partition in range(partitions):
        eventually(
            lambda partition=partition: cluster.in_sync(name, partition) == set(BROKERS),
            f"{name}-{partition} is in sync",
        )
