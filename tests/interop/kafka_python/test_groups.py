"""kafka-python's consumers as members of groups."""

from __future__ import annotations

import itertools

import pytest

from tests.interop.kafka_python.adapter import (
    MARKS,
    Member,
    consumer,
    create_topic,
    kafka,
    producer,
    send,
    take,
)
from tests.interop.requirements import require_module
from tests.interop.samples import Sample
from tests.support.waiting import eventually

pytestmark = MARKS

TopicPartition = kafka.TopicPartition
PARTITIONS = 6

_range = require_module("kafka.coordinator.assignors.range", "kafka-python")
_roundrobin = require_module("kafka.coordinator.assignors.roundrobin", "kafka-python")
_sticky = require_module("kafka.coordinator.assignors.sticky.sticky_assignor", "kafka-python")
_cooperative = require_module("kafka.coordinator.assignors.cooperative_sticky", "kafka-python")
ASSIGNORS = {
    "range": _range.RangePartitionAssignor,
    "roundrobin": _roundrobin.RoundRobinPartitionAssignor,
    "sticky": _sticky.StickyPartitionAssignor,
    "cooperative-sticky": _cooperative.CooperativeStickyAssignor,
}


def share(*members: Member) -> None:
    """Wait until the members share the partitions, each one's at most one more than another's."""

    def balanced() -> bool:
        owned = [member.partitions for member in members]
        sizes = {len(partitions) for partitions in owned}
        return (
            sorted(itertools.chain.from_iterable(owned)) == list(range(PARTITIONS))
            and max(sizes) - min(sizes) <= 1
        )

    eventually(balanced, f"{len(members)} members share the partitions")


@pytest.mark.parametrize("strategy", ASSIGNORS)
def test_members_share_the_partitions_and_take_over_from_those_who_leave(
    strategy: str, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused, PARTITIONS)
    settings = {"group_id": unused, "partition_assignment_strategy": [ASSIGNORS[strategy]]}
    with Member(bootstrap, unused, **settings) as first:
        share(first)
        with Member(bootstrap, unused, **settings) as second:
            share(first, second)
            with Member(bootstrap, unused, **settings) as third:
                share(first, second, third)
            share(first, second)
            assert first.partitions | second.partitions == set(range(PARTITIONS))


def test_a_group_goes_on_where_it_committed(bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    partition = TopicPartition(unused, 0)
    with producer(bootstrap) as writer:
        send(writer, unused, [Sample(None, b"%d" % n) for n in range(10)])
    with consumer(bootstrap, unused, group_id=unused) as first:
        assert first.committed(partition) is None
        take(first, 10)
        first.commit({partition: kafka.OffsetAndMetadata(4, "half-way", -1)})
    with consumer(bootstrap, unused, group_id=unused) as second:
        found = second.committed(partition, metadata=True)
        assert (found.offset, found.metadata) == (4, "half-way")
        assert [int(record.value) for record in take(second, 6)] == list(range(4, 10))
        second.commit()
    with consumer(bootstrap, unused, group_id=unused) as third:
        assert third.committed(partition) == 10


def test_what_was_read_is_committed_by_itself_when_a_member_closes(
    bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    with producer(bootstrap) as writer:
        send(writer, unused, [Sample(None, b"%d" % n) for n in range(10)])
    settings = {"group_id": unused, "enable_auto_commit": True}
    with consumer(bootstrap, unused, **settings) as first:
        take(first, 7)
    with consumer(bootstrap, unused, **settings) as second:
        assert take(second, 1)[0].offset == 7


def test_a_static_member_comes_back_without_a_rebalance(bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused, PARTITIONS)
    with Member(bootstrap, unused, group_id=unused, group_instance_id="one") as first:
        with Member(bootstrap, unused, group_id=unused, group_instance_id="two") as second:
            share(first, second)
            owned, assignments = second.partitions, first.assignments
        with Member(bootstrap, unused, group_id=unused, group_instance_id="two") as back:
            share(first, back)
            assert back.partitions == owned
            assert first.assignments == assignments
