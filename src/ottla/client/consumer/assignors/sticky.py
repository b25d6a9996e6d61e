"""The sticky assignors: balanced first, and then as few partitions moved as possible.

``sticky`` is eager: every member gives up all, and tells in its user data what it had.
``cooperative-sticky`` (KIP-429) lets members keep what they own while the group rebalances: a partition
that changes hands is first left out, its owner gives it up and rejoins, and the next generation gives it
to its new owner. Racks are not looked at.

User data are Java's bytes: for ``sticky`` an array of (topic, partitions) and the generation, for
``cooperative-sticky`` the generation alone (owned partitions stand in the subscription itself).
Source: ``StickyAssignor.java``, ``CooperativeStickyAssignor.java``, ``AbstractStickyAssignor.java``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ottla.client.consumer.assignors.assignor import Assignment, MemberSubscription
from ottla.client.consumer.assignors.constrained import balance_constrained
from ottla.client.consumer.assignors.general import GeneralAssignment
from ottla.client.types import TopicPartition

DEFAULT_GENERATION = -1


class Claim(NamedTuple):
    """What a member says that it owned, and since which generation (None: it did not say)."""

    partitions: list[TopicPartition]
    generation_id: int | None


class Owned(NamedTuple):
    """All members' claims with their contradictions settled."""

    by_member: Assignment
    claimed_twice: set[TopicPartition]
    highest_generation_id: int


class StickyAssignor:
    """Eager stickiness."""

    name = "sticky"
    cooperative = False

    def __init__(self) -> None:
        self._partitions: list[TopicPartition] | None = None
        self._generation_id = DEFAULT_GENERATION

    def on_assignment(self, partitions: list[TopicPartition], generation_id: int) -> None:
        """Remember what to ask for again."""
        self._partitions = list(partitions)
        self._generation_id = generation_id

    def user_data(self, topics: Iterable[str]) -> bytes | None:
        """The last assignment and its generation; None before the first."""
        if self._partitions is None:
            return None
        return encode_sticky_user_data(self._partitions, self._generation_id)

    def assign(
        self, partition_counts: Mapping[str, int], members: Mapping[str, MemberSubscription]
    ) -> Assignment:
        """Balanced, and near to what the members had."""
        claims = {member: self._claim(members[member]) for member in sorted(members)}
        return _assign(partition_counts, members, claims)[0]

    def _claim(self, member: MemberSubscription) -> Claim:
        if not member.user_data:
            return Claim([], None)
        return decode_sticky_user_data(member.user_data)


class CooperativeStickyAssignor:
    """Stickiness without stopping the world."""

    name = "cooperative-sticky"
    cooperative = True

    def __init__(self) -> None:
        self._generation_id = DEFAULT_GENERATION

    def on_assignment(self, partitions: list[TopicPartition], generation_id: int) -> None:
        """Remember the generation: what is owned is known to the consumer itself."""
        self._generation_id = generation_id

    def user_data(self, topics: Iterable[str]) -> bytes | None:
        """The generation of the last assignment."""
        return struct.pack(">i", self._generation_id)

    def assign(
        self, partition_counts: Mapping[str, int], members: Mapping[str, MemberSubscription]
    ) -> Assignment:
        """The sticky assignment without the partitions that their owners must give up first."""
        claims = {member: self._claim(members[member]) for member in sorted(members)}
        assignment, moving = _assign(partition_counts, members, claims)
        if moving is None:
            moving = _moving(assignment, members)
        for partition, new_owner in moving.items():
            assignment[new_owner].remove(partition)
        return assignment

    def _claim(self, member: MemberSubscription) -> Claim:
        if member.generation_id >= 0:
            return Claim(member.owned_partitions, member.generation_id)
        if member.user_data is None:
            return Claim(member.owned_partitions, None)
        if len(member.user_data) < 4:
            return Claim(member.owned_partitions, DEFAULT_GENERATION)
        return Claim(member.owned_partitions, struct.unpack_from(">i", member.user_data)[0])


def _assign(
    partition_counts: Mapping[str, int],
    members: Mapping[str, MemberSubscription],
    claims: Mapping[str, Claim],
) -> tuple[Assignment, dict[TopicPartition, str] | None]:
    """The assignment, and which partitions change hands (None where that is not known as a by-product)."""
    read = {topic for member in members.values() for topic in member.topics}
    partition_counts = {topic: n for topic, n in partition_counts.items() if topic in read}
    owned = settle(claims, partition_counts)
    subscriptions = {frozenset(member.topics) for member in members.values()}
    if len(subscriptions) == 1:
        return balance_constrained(partition_counts, owned.by_member, owned.claimed_twice)
    general = GeneralAssignment(
        partition_counts,
        {member: list(subscription.topics) for member, subscription in members.items()},
        owned.by_member,
        _previous_owners(claims, owned.highest_generation_id),
    )
    return general.build(), None


def settle(claims: Mapping[str, Claim], partition_counts: Mapping[str, int]) -> Owned:
    """Who really owned what: the claim of the newest generation wins; two of one generation both lose."""
    by_member: Assignment = {}
    claimed_twice: set[TopicPartition] = set()
    owner_of: dict[TopicPartition, str] = {}
    generations = {
        member: DEFAULT_GENERATION if claim.generation_id is None else claim.generation_id
        for member, claim in claims.items()
    }
    for member, claim in claims.items():
        mine = by_member[member] = []
        for partition in dict.fromkeys(claim.partitions):
            if not 0 <= partition.partition < partition_counts.get(partition.topic, 0):
                continue
            other = owner_of.get(partition)
            if other is None:
                mine.append(partition)
                owner_of[partition] = member
            elif generations[member] >= generations[other]:
                if partition in by_member[other]:
                    by_member[other].remove(partition)
                if generations[member] == generations[other]:
                    claimed_twice.add(partition)
                else:
                    mine.append(partition)
                owner_of[partition] = member
    return Owned(by_member, claimed_twice, max(generations.values(), default=DEFAULT_GENERATION))


def _previous_owners(claims: Mapping[str, Claim], highest: int) -> dict[TopicPartition, str]:
    """Of members that missed generations: what they had, for a partition that must move anyway."""
    previous: dict[TopicPartition, tuple[int, str]] = {}
    for member, claim in claims.items():
        generation = DEFAULT_GENERATION if claim.generation_id is None else claim.generation_id
        if generation >= highest:
            continue
        for partition in claim.partitions:
            if partition not in previous or generation > previous[partition][0]:
                previous[partition] = (generation, member)
    return {partition: member for partition, (_, member) in previous.items()}


def _moving(
    assignment: Assignment, members: Mapping[str, MemberSubscription]
) -> dict[TopicPartition, str]:
    """Each partition that one member must give up before another can have it, and that other."""
    added: dict[TopicPartition, str] = {}
    revoked: set[TopicPartition] = set()
    for member, partitions in assignment.items():
        had = set(members[member].owned_partitions)
        got = set(partitions)
        added.update((partition, member) for partition in got - had)
        revoked |= had - got
    return {partition: member for partition, member in added.items() if partition in revoked}


def encode_sticky_user_data(partitions: list[TopicPartition], generation_id: int) -> bytes:
    """``STICKY_ASSIGNOR_USER_DATA_V1``."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in partitions:
        by_topic.setdefault(topic, []).append(partition)
    out = bytearray(struct.pack(">i", len(by_topic)))
    for topic, numbers in by_topic.items():
        name = topic.encode()
        out += struct.pack(">h", len(name)) + name
        out += struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)
    out += struct.pack(">i", generation_id)
    return bytes(out)


def decode_sticky_user_data(data: bytes) -> Claim:
    """Version 1, or version 0 that has no generation; what cannot be read claims nothing."""
    partitions: list[TopicPartition] = []
    try:
        (topic_count,) = struct.unpack_from(">i", data)
        at = 4
        for _ in range(topic_count):
            (length,) = struct.unpack_from(">h", data, at)
            if length < 0:  # it would lead back, and round and round
                return Claim([], DEFAULT_GENERATION)
            topic = str(data[at + 2 : at + 2 + length], "utf-8")
            at += 2 + length
            (count,) = struct.unpack_from(">i", data, at)
            numbers = struct.unpack_from(f">{count}i", data, at + 4)
            at += 4 + 4 * count
            partitions += [TopicPartition(topic, number) for number in numbers]
    except (struct.error, UnicodeDecodeError):
        return Claim([], DEFAULT_GENERATION)
    if len(data) - at < 4:
        return Claim(partitions, None)
    return Claim(partitions, struct.unpack_from(">i", data, at)[0])
