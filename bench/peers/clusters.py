"""Three brokers of each product on this machine: Ottla on a ZooKeeper ensemble, Apache Kafka in KRaft mode.

ZooKeeper's three servers are no brokers of ours, but nobody has Ottla's cluster without them: their CPU seconds and
their memory are in the cluster's, as those of Kafka's controllers are in its brokers', and stand beside, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.processes import cpu_seconds, pss_mb
from bench.peers.products import Ottla, Running
from tests.support.apache_kafka import free_ports
from tests.support.zookeeper import Ensemble

NODES = 3
ENSEMBLE = 3


class OttlaCluster(Ottla):
    """Ours: ``nodes`` brokers and an ensemble of three."""

    def start(
        self,
        directory: Path,
        durability: str,
        nodes: int = NODES,
        settings: Mapping[str, str] | None = None,
    ) -> Running:
        running = OttlaNodes(self.name, free_ports(nodes), directory)
        try:
            for index, port in enumerate(running.ports):
                command = self.command(directory / f"data-{index + 1}", port, durability, settings)
                command += ["--zookeeper", running.ensemble.connect, "--node-id", str(index + 1)]
                running.run(f"node-{index + 1}", command, {})
        except BaseException:
            running.stop()
            raise
        return running


class OttlaNodes(Running):
    """Our brokers, and the ensemble that they are registered with; ``others`` are its processes."""

    def __init__(self, name: str, ports: Sequence[int], directory: Path) -> None:
        super().__init__(name, ports, directory)
        self.ensemble = Ensemble(ENSEMBLE, forces_sync=True)  # as one in earnest has it
        self.ensemble.start()
        self.others = [server.pid for server in self.ensemble.servers]

    def stop(self) -> None:
        """End the brokers, then the ensemble."""
        super().stop()
        self.others.clear()
        self.ensemble.close()


def zookeeper_cpu_seconds(running: Running) -> float:
    """What the processes that are no brokers have taken of ``running.cpu_seconds``."""
    return sum(cpu_seconds(pid) for pid in running.others)


def zookeeper_pss_mb(running: Running) -> float:
    """What they have of ``running.pss_mb``."""
    return sum(pss_mb(pid) for pid in running.others)
