"""Nobody waits for a follower's Fetch that is parked at its leader, however long it may be.

Here it may be 15 minutes: whatever waited for its end would not be over at the deadline. In each test a follower has a
Fetch of a quiet topic parked at the leader before the partition in question comes to the two of them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ottla.broker.broker import Broker as Server
from ottla.controller.topics import NewTopic
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from tests.broker.test_replication import Cluster, Play, play
from tests.broker.test_several_brokers import until

QUARTER_MS = 900_000
LONG = {
    "replica_fetch_wait_max_ms": QUARTER_MS,
    "replica_lag_time_max_ms": 2 * QUARTER_MS,
    "replica_socket_timeout_ms": QUARTER_MS,
}


async def be_quiet(cluster: Cluster, replicas: list[int]) -> None:
    """A topic ``quiet``; returns once the followers' Fetches for it are parked at the leader."""
    (controller,) = [one for one in cluster.brokers.values() if one.controller.is_active]
    await controller.controller.create_topics([NewTopic("quiet", assignments={0: replicas})])
    await parked(cluster, *replicas)


async def parked(cluster: Cluster, leader: int, *followers: int) -> None:
    """Return once each follower has a Fetch parked at the leader."""

    def all_of_them() -> bool:
        waiting = {one.replica_id for one in cluster.brokers[leader].parked_fetches}
        return waiting >= set(followers)

    await until(all_of_them, "the followers' Fetches are parked")


async def reassign(cluster: Cluster, replicas: list[int]) -> None:
    """Have ``orders`` in these replicas."""
    wanted = ReassignablePartition(partition_index=0, replicas=replicas)
    topic = ReassignableTopic(name="orders", partitions=[wanted])
    (controller,) = [one for one in cluster.brokers.values() if one.controller.is_active]
    answer = await controller.controller.alter_partition_reassignments(
        AlterPartitionReassignmentsRequest(topics=[topic])
    )
    assert answer.responses[0].partitions[0].error_code == 0


def long_play(data: Path, test: Play) -> None:
    play(data, test, **LONG)


def test_a_new_topics_first_record_does_not_wait_for_fetches_of_others(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await be_quiet(cluster, [1, 2, 3])
        await cluster.create([1, 2, 3], min_insync_replicas="3")
        assert await cluster.produce() == 0
        assert cluster.at(1).isr == [1, 2, 3]

    long_play(tmp_path, test)


def test_the_next_leader_does_not_wait_for_fetches_that_it_had_parked_before(
    tmp_path: Path,
) -> None:
    async def test(cluster: Cluster) -> None:
        await be_quiet(cluster, [2, 1])
        await cluster.create([3, 2, 1], min_insync_replicas="2")
        assert await cluster.produce() == 0
        await parked(cluster, 2, 1)
        await cluster.brokers.pop(3).stop()
        await until(lambda: cluster.leader is not None, "it is led again")
        assert cluster.leader is cluster.at(2)
        assert await cluster.produce() == 0
        assert sorted(cluster.at(2).isr) == [1, 2]

    long_play(tmp_path, test)


def test_a_follower_that_stops_holds_up_no_acknowledgement(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await be_quiet(cluster, [1, 2, 3])
        await cluster.create([1, 2, 3], min_insync_replicas="2")
        stopping = asyncio.create_task(cluster.brokers.pop(3).stop())
        while not stopping.done():
            assert await cluster.produce() == 0
        await stopping
        assert await cluster.produce() == 0
        await until(lambda: cluster.at(1).isr == [1, 2], "it is out")

    long_play(tmp_path, test)


def test_a_broker_that_comes_back_joins_the_isr_before_its_fetch_is_over(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await be_quiet(cluster, [1, 2, 3])
        await cluster.create([1, 2, 3], min_insync_replicas="2")
        assert await cluster.produce() == 0
        stopped = cluster.brokers.pop(3)
        await stopped.stop()
        assert await cluster.produce() == 0
        again = Server(stopped.config, connector=cluster.keeper)
        cluster.brokers[3] = again
        try:
            await again.start()
            await until(lambda: sorted(cluster.at(1).isr) == [1, 2, 3], "it joins")
            assert await cluster.produce() == 0
        finally:
            await again.stop()

    long_play(tmp_path, test)


def test_a_replica_that_is_added_joins_though_its_broker_waits_for_others(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await be_quiet(cluster, [1, 2, 3])
        await cluster.create([1, 2], min_insync_replicas="2")
        assert await cluster.produce() == 0
        await reassign(cluster, [1, 2, 3])
        await until(lambda: sorted(cluster.at(1).isr) == [1, 2, 3], "it joins")
        assert await cluster.produce() == 0

    long_play(tmp_path, test)


def test_replicas_that_are_added_together_join_one_right_after_the_other(tmp_path: Path) -> None:
    """The ISR takes in one at a time: the Fetch of the other is parked by then, and nothing is written."""

    async def test(cluster: Cluster) -> None:
        await be_quiet(cluster, [1, 2, 3])
        await cluster.create([1], min_insync_replicas="1")
        await reassign(cluster, [1, 2, 3])
        await until(lambda: sorted(cluster.at(1).isr) == [1, 2, 3], "they join")
        assert await cluster.produce() == 0

    long_play(tmp_path, test)
