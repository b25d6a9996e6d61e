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
from tests.unit.log.samples import all_records


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


class WorldWithUncleanElections(WorldWithLosses):
    """Where nobody in sync lives, whoever lives may be elected. It is known then what is lost: what it lacks."""

    def __init__(self, seed: int, durability: Durability, minimum_isr: int = 1) -> None:
        super().__init__(seed, durability, minimum_isr)
        self.unclean = 0

    def faults(self) -> list[Callable[[], None]]:
        return [*super().faults(), *[self.elect_uncleanly] * 3]

    def courses(self) -> list[Callable[[], None]]:
        return [*super().courses(), self.elect_uncleanly]

    def elect_uncleanly(self) -> None:
        if self.leader >= 0 or not self.alive or not self.alive.keys().isdisjoint(self.isr):
            return
        node = self.nodes[self.choose.choice(sorted(self.alive))]
        self.unclean += 1
        kept = self._kept_by(node)
        self.values = {offset: value for offset, value in self.values.items() if offset < kept}
        self.acknowledged = {o: value for o, value in self.acknowledged.items() if o < kept}
        self.committed_end = min(self.committed_end, kept)
        self.seen.clear()
        self.starts.clear()
        self.isr = [node.id]
        self._elect(node.id)

    def _kept_by(self, node: Node) -> int:
        """The first offset from which on its log is not, or is not known to be, what was committed."""
        partition = node.partition
        if partition is None:
            return 0
        log, end = partition.log, partition.acknowledged_end_offset
        held = {record.offset: bytes(record.value or b"") for record in all_records(log)}
        for offset in range(log.log_start_offset, self.committed_end):
            if offset >= end or held.get(offset) != self.values.get(offset):
                return offset
        return self.committed_end

    def may_differ(self, node: Node) -> bool:
        """Until it is in sync with the leader that was elected uncleanly."""
        return self.unclean > 0 and node.id not in self.isr

    def _check_start(self, node: Node) -> None:
        if self.may_differ(
            node
        ):  # who has to agree with a log that ends before its own start begins there
            self.starts.pop(node.id, None)
        else:
            super()._check_start(node)
