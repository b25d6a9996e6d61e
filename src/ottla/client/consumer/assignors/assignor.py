"""What every assignor is, and what it is told about the members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from ottla.client.types import TopicPartition

Assignment = dict[str, list[TopicPartition]]
"""Each member's partitions."""


class MemberSubscription(NamedTuple):
    """What one member says about itself when it joins (``ConsumerProtocolSubscription``)."""

    topics: list[str]
    user_data: bytes | None = None
    owned_partitions: list[TopicPartition] = []  # noqa: RUF012 - never changed
    generation_id: int = -1
    rack_id: str | None = None
    group_instance_id: str | None = None


class Assignor(Protocol):
    """A rule that shares partitions out among a group's members."""

    @property
    def name(self) -> str:
        """The name that all members of a group must have in common."""
        ...

    @property
    def cooperative(self) -> bool:
        """Whether members keep their partitions while the group rebalances (KIP-429)."""
        ...

    def user_data(self, topics: Iterable[str]) -> bytes | None:
        """What this member sends along with its subscription."""
        ...

    def assign(
        self, partition_counts: Mapping[str, int], members: Mapping[str, MemberSubscription]
    ) -> Assignment:
        """Every member's partitions; ``partition_counts`` holds the topics that exist."""
        ...

    def on_assignment(self, partitions: list[TopicPartition], generation_id: int) -> None:
        """Learn what this member was given in which generation."""
        ...


class WithoutMemory:
    """What assignors have in common that start afresh each time."""

    cooperative = False

    def user_data(self, topics: Iterable[str]) -> bytes | None:
        """Nothing: what is assigned depends on no history."""
        return None

    def on_assignment(self, partitions: list[TopicPartition], generation_id: int) -> None:
        """Nothing to remember."""


def sorted_members(members: Mapping[str, MemberSubscription]) -> list[str]:
    """Member ids in Java's order: static members by their instance id, then the others by member id."""

    def order(member_id: str) -> tuple[int, str]:
        instance_id = members[member_id].group_instance_id
        return (1, member_id) if instance_id is None else (0, instance_id)

    return sorted(members, key=order)
