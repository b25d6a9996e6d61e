"""The round-robin assignor: all partitions of all topics in order, one to each member in turn.

Source: ``RoundRobinAssignor.java``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ottla.client.consumer.assignors.assignor import (
    Assignment,
    MemberSubscription,
    WithoutMemory,
    sorted_members,
)
from ottla.client.types import TopicPartition


class RoundRobinAssignor(WithoutMemory):
    """Evens out over topics where range does it a topic."""

    name = "roundrobin"

    def assign(
        self, partition_counts: Mapping[str, int], members: Mapping[str, MemberSubscription]
    ) -> Assignment:
        """Each partition to the next member in turn that subscribes to its topic."""
        assignment: Assignment = {member: [] for member in members}
        order = sorted_members(members)
        subscribed = {topic for member in members.values() for topic in member.topics}
        turn = 0
        for topic in sorted(subscribed & partition_counts.keys()):
            for partition in range(partition_counts[topic]):
                while topic not in members[order[turn]].topics:
                    turn = (turn + 1) % len(order)
                assignment[order[turn]].append(TopicPartition(topic, partition))
                turn = (turn + 1) % len(order)
        return assignment
