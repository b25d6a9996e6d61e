"""``replication_world`` with records deleted on purpose, and disks that are wiped.

A wiped disk is put into a broker that is down, once the cluster has noticed that and other members of the ISR have what
was committed: what its earlier life had acknowledged must count for nothing then (KIP-903).
"""

from __future__ import annotations

from collections.abc import Callable

from ottla.log.flusher import Durability
from ottla.simulation.disk import SimulatedDisk
from tests.property.replication_nodes import NOW_MS, Node
from tests.property.replication_world import World


class WorldWithLosses(World):
    """Leaders delete records, and disks are wiped."""

    def __init__(self, seed: int, durability: Durability, minimum_isr: int = 1) -> None:
        super().__init__(seed, durability, minimum_isr)
        self.starts: dict[int, int] = {}
        self.wiped = 0

    def faults(self) -> list[Callable[[], None]]:
        return [*super().faults(), *[self.wipe] * 3]

    def courses(self) -> list[Callable[[], None]]:
        return [*super().courses(), self.delete]

    def delete(self) -> None:
        """DeleteRecords comes to whoever believes that it leads."""
        leaders = [n for n in self.nodes.values() if n.partition and n.partition.is_leader]
        if not leaders:
            return
        node = self.choose.choice(leaders)
        partition = node.partition
        assert partition is not None
        start, mark = partition.log.log_start_offset, partition.high_watermark
        if mark > start:
            offset = self.choose.randint(start + 1, mark)
            self.deleted_end = max(self.deleted_end, offset)
            node.keep_start(partition.log, offset)
            partition.delete_records(offset, NOW_MS)

    def wipe(self) -> None:
        """A broker that is down gets an empty disk."""
        down = [node for node in self.nodes.values() if not node.is_up]
        if not down:
            return
        node = self.choose.choice(down)
        if node.id in self.alive:
            self.expire(node.id)
        if node.id not in self.isr:
            node.disk = SimulatedDisk()
            self.starts.pop(node.id, None)
            self.wiped += 1

    def check(self) -> None:
        super().check()
        for node in self.nodes.values():
            self._check_start(node)

    def _check_start(self, node: Node) -> None:
        if node.partition is not None:
            start = node.partition.log.log_start_offset
            assert start >= self.starts.get(node.id, 0), "7"
            self.starts[node.id] = start
