"""Settings of copying, in brokers that copy: throttled rates, and several fetchers a leader."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla.controller.configs import ConfigAlteration
from ottla.controller.topics import NewTopic
from ottla.replication.quota import ReplicationQuota
from tests.broker.test_lost_records import start_again
from tests.broker.test_replication import Cluster, play
from tests.broker.test_several_brokers import until
from tests.unit.log.samples import NOW_MS, batch

A_BATCH = {"replica_fetch_max_bytes": 1, "replica_fetch_response_max_bytes": 1}
"""A follower gets one batch at a time."""


async def alter(cluster: Cluster, broker: int, name: str, value: int) -> None:
    (active,) = [b for b in cluster.brokers.values() if b.controller.is_active]
    alteration = ConfigAlteration("brokers", str(broker), lambda config: {name: str(value)})
    await active.controller.alter_configs([alteration])


@pytest.mark.parametrize("side", ["leader", "follower"])
def test_a_throttled_replica_catches_up_when_the_rate_lets_it(tmp_path: Path, side: str) -> None:
    name = f"{side}.replication.throttled.rate"
    throttled = 2 if side == "leader" else 3

    async def test(cluster: Cluster) -> None:
        config = {f"{side}_replication_throttled_replicas": f"0:{throttled}"}
        await cluster.create([2, 3], **config)
        stopped = cluster.brokers.pop(3)
        await stopped.stop()
        leader = cluster.leader
        assert leader is not None
        await until(lambda: leader.isr == [2], "it leads alone")
        for _ in range(20):
            assert await cluster.produce(1) == 0
        await alter(cluster, throttled, name, 1)
        again = await start_again(cluster, stopped)
        try:
            if side == "leader":
                quota: ReplicationQuota | None = leader._peers.leader_quota
            else:
                await until(lambda: again.replicas.fetchers is not None, "it copies")
                assert again.replicas.fetchers is not None
                quota = again.replicas.fetchers._around.throttle
            assert quota is not None
            await until(lambda: quota.is_exceeded, "it has copied too much")
            assert cluster.at(3).log.log_end_offset < 20
            assert leader.isr == [2]
            await alter(cluster, throttled, name, 1 << 40)
            await until(lambda: sorted(leader.isr) == [2, 3], "it catches up")
        finally:
            cluster.brokers.pop(3)
            await again.stop()

    play(tmp_path, test, durability="os", **A_BATCH)


def test_the_partitions_of_a_leader_are_shared_by_its_fetchers(tmp_path: Path) -> None:
    count = 8

    async def test(cluster: Cluster) -> None:
        (active,) = [b for b in cluster.brokers.values() if b.controller.is_active]
        assignments = {index: [2, 3] for index in range(count)}
        await active.controller.create_topics([NewTopic("many", assignments=assignments)])
        leader, follower = cluster.brokers[2].replicas, cluster.brokers[3].replicas
        await until(lambda: len(list(leader)) == len(list(follower)) == count, "they are told")
        for partition in leader:
            partition.append_as_leader(memoryview(batch(2)), NOW_MS, required_acks=-1)
        await until(
            lambda: all(one.high_watermark == 2 for one in (*leader, *follower)),
            "all is committed, and the follower knows it",
        )
        fetchers = follower.fetchers
        assert fetchers is not None
        shares = [len(fetcher.copying) for fetcher in fetchers._fetchers.values()]
        assert 1 < len(shares) <= 3
        assert sum(shares) == count

    play(tmp_path, test, durability="os", num_replica_fetchers=3)
