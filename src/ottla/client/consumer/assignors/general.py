"""The sticky assignment where members subscribe to different topics: keep, fill up, then even out.

Every partition goes to the least loaded member that may have it; then partitions move from members with
two or more too many, and where a choice exists a partition moves back to where it came from rather than
another one moving on. Source: ``GeneralAssignmentBuilder`` in ``AbstractStickyAssignor.java``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping

from ottla.client.consumer.assignors.assignor import Assignment
from ottla.client.types import TopicPartition


class GeneralAssignment:
    """One run of the rule.

    ``owned`` are the settled claims; ``previous`` names former owners of older generations, who get a
    partition back when it must move anyway.
    """

    def __init__(
        self,
        partition_counts: Mapping[str, int],
        topics_of: Mapping[str, list[str]],
        owned: Mapping[str, list[TopicPartition]],
        previous: Mapping[TopicPartition, str],
    ) -> None:
        self._counts = partition_counts
        self._previous = previous
        self._topics_of = {
            member: {topic for topic in topics if topic in partition_counts}
            for member, topics in topics_of.items()
        }
        self._readers: dict[str, list[str]] = {topic: [] for topic in partition_counts}
        for member in sorted(self._topics_of):
            for topic in self._topics_of[member]:
                self._readers[topic].append(member)
        self._assignment: Assignment = {
            member: list(owned.get(member, ())) for member in self._topics_of
        }
        self._owner_of: dict[TopicPartition, str] = {}
        self._movements = _Movements()
        self._revoked = False
        self._load: list[tuple[int, str]] = []

    def build(self) -> Assignment:
        """Every member's partitions."""
        self._drop_what_is_not_subscribed()
        order = sorted(self._counts, key=lambda topic: (len(self._readers[topic]), topic))
        partitions = [TopicPartition(t, p) for t in order for p in range(self._counts[t])]
        unassigned = [p for p in partitions if p not in self._owner_of]
        self._load = sorted((len(mine), member) for member, mine in self._assignment.items())
        fresh = not any(self._assignment.values())
        for partition in unassigned:
            member = self._least_loaded_reader(partition.topic)
            if member is not None:
                self._change(member, partition, add=True)
                self._owner_of[partition] = member
        self._even_out(partitions, unassigned, fresh=fresh)
        return self._assignment

    def _drop_what_is_not_subscribed(self) -> None:
        for member, mine in self._assignment.items():
            topics = self._topics_of[member]
            kept = []
            for partition in mine:
                if partition.partition >= self._counts.get(partition.topic, 0):
                    continue
                if partition.topic not in topics:
                    self._revoked = True
                    continue
                kept.append(partition)
                self._owner_of[partition] = member
            mine[:] = kept

    def _even_out(
        self, partitions: list[TopicPartition], unassigned: list[TopicPartition], *, fresh: bool
    ) -> None:
        fixed: Assignment = {}
        for member in list(self._assignment):
            if not self._takes_part(member):
                self._load.remove((len(self._assignment[member]), member))
                fixed[member] = self._assignment.pop(member)
        if self._assignment:
            before = {member: list(mine) for member, mine in self._assignment.items()}
            owners_before = dict(self._owner_of)
            movable = [p for p in partitions if len(self._readers[p.topic]) >= 2]
            if not self._revoked:
                self._reassign([p for p in unassigned if len(self._readers[p.topic]) >= 2])
            moved = self._reassign(movable)
            if not fresh and moved and _imbalance(self._assignment) >= _imbalance(before):
                self._assignment = before
                self._owner_of = owners_before
        self._assignment.update(fixed)

    def _takes_part(self, member: str) -> bool:
        mine = self._assignment[member]
        if len(mine) < sum(self._counts[topic] for topic in self._topics_of[member]):
            return True
        return any(len(self._readers[partition.topic]) >= 2 for partition in mine)

    def _reassign(self, partitions: list[TopicPartition]) -> bool:
        ever = False
        again = True
        while again:
            again = False
            for partition in partitions:
                if self._balanced():
                    return ever
                if self._move_if_better(partition):
                    again = ever = True
        return ever

    def _move_if_better(self, partition: TopicPartition) -> bool:
        owner = self._owner_of[partition]
        load = len(self._assignment[owner])
        former = self._previous.get(partition)
        if (
            former is not None
            and former in self._assignment
            and partition.topic in self._topics_of[former]
            and load > len(self._assignment[former]) + 1
        ):
            self._move(partition, former)
            return True
        readers = self._readers[partition.topic]
        if any(load > len(self._assignment[reader]) + 1 for reader in readers):
            target = self._least_loaded_reader(partition.topic)
            if target is not None:
                self._move(partition, target)
                return True
        return False

    def _move(self, partition: TopicPartition, target: str) -> None:
        owner = self._owner_of[partition]
        partition = self._movements.choose(partition, owner, target)
        owner = self._owner_of[partition]
        self._movements.record(partition, owner, target)
        self._change(owner, partition, add=False)
        self._change(target, partition, add=True)
        self._owner_of[partition] = target

    def _balanced(self) -> bool:
        if self._load[0][0] >= self._load[-1][0] - 1:
            return True
        for load, member in self._load:
            for topic in self._topics_of[member]:
                for partition in range(self._counts[topic]):
                    owner = self._owner_of[TopicPartition(topic, partition)]
                    if owner != member and load + 1 < len(self._assignment[owner]):
                        return False
        return True

    def _least_loaded_reader(self, topic: str) -> str | None:
        for _, member in self._load:
            if topic in self._topics_of[member]:
                return member
        return None

    def _change(self, member: str, partition: TopicPartition, *, add: bool) -> None:
        mine = self._assignment[member]
        del self._load[bisect_left(self._load, (len(mine), member))]
        if add:
            mine.append(partition)
        else:
            mine.remove(partition)
        insort(self._load, (len(mine), member))


class _Movements:
    """Who gave what to whom in this run, so that a pair never swaps two partitions of one topic."""

    def __init__(self) -> None:
        self._of: dict[TopicPartition, tuple[str, str]] = {}
        self._between: dict[tuple[str, str, str], dict[TopicPartition, None]] = {}

    def choose(self, partition: TopicPartition, owner: str, target: str) -> TopicPartition:
        """The partition to move instead: one that came from ``target`` to ``owner``, if there is one."""
        source = self._of[partition][0] if partition in self._of else owner
        back = self._between.get((partition.topic, target, source))
        return next(iter(back)) if back else partition

    def record(self, partition: TopicPartition, owner: str, target: str) -> None:
        """Note a move; one that goes back to where it started is forgotten."""
        source = owner
        known = self._of.pop(partition, None)
        if known is not None:
            source = known[0]
            pairs = self._between[partition.topic, *known]
            del pairs[partition]
        if source != target:
            self._of[partition] = (source, target)
            self._between.setdefault((partition.topic, source, target), {})[partition] = None


def _imbalance(assignment: Assignment) -> int:
    """The sum of the differences of all pairs: 0 when all have equally many."""
    sizes = [len(partitions) for partitions in assignment.values()]
    return sum(abs(a - b) for i, a in enumerate(sizes) for b in sizes[i + 1 :])
