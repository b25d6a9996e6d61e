"""The range assignor: each topic's partitions in consecutive runs over the members in order.

Topics with equally many partitions and the same subscribers are shared out alike, so that partition n of
one and of the other go to the same member (co-partitioning). Racks are not looked at.
Source: ``RangeAssignor.java``.
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


class RangeAssignor(WithoutMemory):
    """Kafka's default assignor."""

    name = "range"

    def assign(
        self, partition_counts: Mapping[str, int], members: Mapping[str, MemberSubscription]
    ) -> Assignment:
        """Runs of partitions a topic; the first members get one more where it does not come out even."""
        assignment: Assignment = {member: [] for member in members}
        order = sorted_members(members)
        for topic in sorted(partition_counts):
            readers = [member for member in order if topic in members[member].topics]
            if not readers:
                continue
            each, extra = divmod(partition_counts[topic], len(readers))
            start = 0
            for position, member in enumerate(readers):
                end = start + each + (position < extra)
                assignment[member] += [TopicPartition(topic, p) for p in range(start, end)]
                start = end
        return assignment
