"""A partition's replicas while they are being changed (KIP-455): pure arithmetic.

While a reassignment is under way the replicas are the target's, in its order, and then those that go; ``adding`` are
those that are new and ``removing`` those that go. Source: Kafka's ``ReplicaAssignment``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Reassignment(NamedTuple):
    """All replicas of a partition, and which of them come and go."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()

    @property
    def is_under_way(self) -> bool:
        """Whether any replica comes or goes."""
        return bool(self.adding or self.removing)

    @property
    def origin(self) -> tuple[int, ...]:
        """The replicas as they were before, though not in their order."""
        return tuple(replica for replica in self.replicas if replica not in self.adding)

    @property
    def target(self) -> tuple[int, ...]:
        """The replicas as they are to be."""
        return tuple(replica for replica in self.replicas if replica not in self.removing)

    def to(self, target: Sequence[int]) -> Reassignment:
        """The reassignment to ``target`` from where this one started."""
        origin = self.origin
        replicas = tuple(dict.fromkeys((*target, *origin)))
        return Reassignment(
            replicas,
            tuple(replica for replica in replicas if replica not in origin),
            tuple(replica for replica in replicas if replica not in target),
        )

    def is_complete(self, isr: Collection[int]) -> bool:
        """Whether all of the target are in sync."""
        return set(self.target) <= set(isr)


def reason_refused(
    current: Reassignment, target: Sequence[int], alive: Collection[int]
) -> str | None:
    """Why a partition can't be reassigned to ``target``, in Kafka's words, or None."""
    if not target:
        return "Empty replica list specified in partition reassignment."
    if len(set(target)) != len(target):
        return (
            "Duplicate replica ids in partition reassignment replica list: "
            f"{', '.join(map(str, target))}"
        )
    if any(replica < 0 for replica in target):
        return f"Invalid broker id in replica list: {', '.join(map(str, target))}"
    adding = current.to(target).adding
    if not set(adding) <= set(alive):
        return (
            "Replica assignment has brokers that are not alive. Replica list: "
            f"{', '.join(map(str, adding))}, live broker list: "
            f"{', '.join(map(str, sorted(alive)))}"
        )
    return None
