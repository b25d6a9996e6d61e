"""aiokafka's consumers as members of groups."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.interop.aiokafka.adapter import (
    aiokafka,
    asynchronous,
    consumer,
    create_topic,
    producer,
    send,
    take,
)
from tests.interop.requirements import require_module
from tests.interop.samples import Sample
from tests.support.waiting import eventually_true

pytestmark = pytest.mark.interop

TopicPartition = aiokafka.TopicPartition
PARTITIONS = 6

_range = require_module("aiokafka.coordinator.assignors.range", "aiokafka")
_roundrobin = require_module("aiokafka.coordinator.assignors.roundrobin", "aiokafka")
_sticky = require_module("aiokafka.coordinator.assignors.sticky.sticky_assignor", "aiokafka")
ASSIGNORS = {
    "range": _range.RangePartitionAssignor,
    "roundrobin": _roundrobin.RoundRobinPartitionAssignor,
    "sticky": _sticky.StickyPartitionAssignor,
}


async def share(*members: Any) -> None:
    """Wait until the members share the partitions, each one's at most one more than another's."""

    async def balanced() -> bool:
        owned: list[int] = []
        for member in members:
            await member.getmany(timeout_ms=1)
            owned += [partition.partition for partition in member.assignment()]
        sizes = {len(member.assignment()) for member in members}
        return sorted(owned) == list(range(PARTITIONS)) and max(sizes) - min(sizes) <= 1

    await eventually_true(balanced, f"{len(members)} members share the partitions")


@pytest.mark.parametrize("strategy", ASSIGNORS)
@asynchronous
async def test_members_share_the_partitions_and_take_over_from_those_who_leave(
    strategy: str, bootstrap: str, unused: str
) -> None:
    await create_topic(bootstrap, unused, PARTITIONS)
    settings = {
        "group_id": unused,
        "partition_assignment_strategy": (ASSIGNORS[strategy],),
    }
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(consumer(bootstrap, unused, **settings))
        await share(first)
        second = await stack.enter_async_context(consumer(bootstrap, unused, **settings))
        await share(first, second)
        async with consumer(bootstrap, unused, **settings) as third:
            await share(first, second, third)
        await share(first, second)
        assert first.assignment() | second.assignment() == {
            TopicPartition(unused, n) for n in range(PARTITIONS)
        }


@asynchronous
async def test_a_group_goes_on_where_it_committed(bootstrap: str, unused: str) -> None:
    await create_topic(bootstrap, unused)
    partition = TopicPartition(unused, 0)
    async with producer(bootstrap) as writer:
        await send(writer, unused, [Sample(None, b"%d" % n) for n in range(10)])
    async with consumer(bootstrap, unused, group_id=unused) as first:
        assert await first.committed(partition) is None
        await take(first, 10)
        await first.commit({partition: aiokafka.structs.OffsetAndMetadata(4, "half-way")})
    async with consumer(bootstrap, unused, group_id=unused) as second:
        assert await second.committed(partition) == 4
        assert [int(record.value) for record in await take(second, 6)] == list(range(4, 10))
        await second.commit()
    async with consumer(bootstrap, unused, group_id=unused) as third:
        assert await third.committed(partition) == 10


@asynchronous
async def test_what_was_read_is_committed_by_itself_when_a_member_stops(
    bootstrap: str, unused: str
) -> None:
    await create_topic(bootstrap, unused)
    async with producer(bootstrap) as writer:
        await send(writer, unused, [Sample(None, b"%d" % n) for n in range(10)])
    settings = {"group_id": unused, "enable_auto_commit": True}
    async with consumer(bootstrap, unused, **settings) as first:
        await take(first, 7)
    async with consumer(bootstrap, unused, **settings) as second:
        assert (await take(second, 1))[0].offset == 7


@asynchronous
async def test_a_static_member_comes_back_without_a_rebalance(bootstrap: str, unused: str) -> None:
    await create_topic(bootstrap, unused, PARTITIONS)
    watched = Rebalances()
    settings = {"bootstrap": bootstrap, "group_id": unused}
    async with consumer(**settings, group_instance_id="one") as first:
        first.subscribe([unused], listener=watched)
        async with consumer(**settings, group_instance_id="two") as second:
            second.subscribe([unused])
            await share(first, second)
            owned, rebalances = second.assignment(), watched.count
        async with consumer(**settings, group_instance_id="two") as back:
            back.subscribe([unused])
            await share(first, back)
            assert back.assignment() == owned
            assert watched.count == rebalances


class Rebalances(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc, name-defined]
    """Counts assignments."""

    def __init__(self) -> None:
        self.count = 0

    def on_partitions_revoked(self, revoked: object) -> None:
        """Nothing to do."""

    def on_partitions_assigned(self, assigned: object) -> None:
        """One more."""
        self.count += 1
