"""The sticky assignment where all members subscribe to the same topics: quotas, no search.

With n partitions and m members everyone gets n // m or one more. Members keep what they own up to
their quota, the rest goes round. Source: ``ConstrainedAssignmentBuilder`` in ``AbstractStickyAssignor.java``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ottla.client.consumer.assignors.assignor import Assignment
from ottla.client.types import TopicPartition


def balance_constrained(
    partition_counts: Mapping[str, int],
    owned: Mapping[str, list[TopicPartition]],
    claimed_twice: set[TopicPartition],
) -> tuple[Assignment, dict[TopicPartition, str]]:
    """The assignment, and the partitions that change hands with their new owners."""
    everything = [
        TopicPartition(topic, partition)
        for topic in sorted(partition_counts)
        for partition in range(partition_counts[topic])
    ]
    kept = _keep(owned, claimed_twice, set(everything), len(everything))
    taken = {partition for partitions in kept.assignment.values() for partition in partitions}
    moving: dict[TopicPartition, str] = {}
    for partition in everything:
        if partition in taken:
            continue
        member = kept.next_member()
        kept.give(partition, member)
        former = kept.given_up.get(partition)
        if (former is not None and former != member) or partition in claimed_twice:
            moving[partition] = member
    return kept.assignment, moving


class _Quotas:
    """Who may still take partitions.

    ``short`` has fewer than the smaller quota; ``even`` has exactly that and may take the one more that
    ``spare`` members get.
    """

    def __init__(self, members: list[str], partition_count: int) -> None:
        self.smaller, self.spare = divmod(partition_count, len(members))
        self.assignment: Assignment = {member: [] for member in members}
        self.given_up: dict[TopicPartition, str] = {}
        self.short: deque[str] = deque()
        self.even: deque[str] = deque()

    def next_member(self) -> str:
        """The member whose turn it is: first those that are short, round and round."""
        if self.short:
            member = self.short.popleft()
            self.short.append(member)
            return member
        return self.even.popleft()

    def give(self, partition: TopicPartition, member: str) -> None:
        """Assign; move the member on once it reached the smaller quota."""
        partitions = self.assignment[member]
        partitions.append(partition)
        if len(partitions) == self.smaller:
            self.short.remove(member)
            self.even.append(member)


def _keep(
    owned: Mapping[str, list[TopicPartition]],
    claimed_twice: set[TopicPartition],
    existing: set[TopicPartition],
    partition_count: int,
) -> _Quotas:
    quotas = _Quotas(list(owned), partition_count)
    smaller = quotas.smaller
    for member in sorted(owned):
        mine = sorted(
            (p for p in owned[member] if p in existing and p not in claimed_twice),
            key=lambda p: (p.partition, p.topic),
        )
        if len(mine) < smaller:
            quotas.assignment[member] += mine
            quotas.short.append(member)
            continue
        quota = smaller
        if len(mine) > smaller and quotas.spare:
            quotas.spare -= 1
            quota += 1
        else:
            quotas.even.append(member)
        quotas.assignment[member] += mine[:quota]
        quotas.given_up.update((partition, member) for partition in mine[quota:])
    return quotas
