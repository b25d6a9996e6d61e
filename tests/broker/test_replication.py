"""Three brokers on one store and one event loop copy from each other: what clients see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ottla.broker.broker import Broker as Server
from ottla.controller.topics import NewTopic
from ottla.coordination.embedded import Keeper
from ottla.errors import ErrorCode
from ottla.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.network.channel import Channel
from ottla.records.batch import iter_batches
from ottla.replication.partition import Partition
from tests.broker.test_several_brokers import run_with, server, until
from tests.unit.log.samples import batch, idempotent

Play = Callable[["Cluster"], Awaitable[None]]


class Cluster:
    """Brokers 1 to 3, and a topic ``orders`` of one partition."""

    def __init__(self, keeper: Keeper, brokers: tuple[Server, ...]) -> None:
        self.keeper = keeper
        self.brokers = {broker.node_id: broker for broker in brokers}

    async def create(self, replicas: list[int], **config: str) -> None:
        (controller,) = [b for b in self.brokers.values() if b.controller.is_active]
        settings = {name.replace("_", "."): value for name, value in config.items()}
        topic = NewTopic("orders", assignments={0: replicas}, configs=settings)
        await controller.controller.create_topics([topic])
        await until(lambda: self.leader is not None, "it is led")

    def at(self, broker: int) -> Partition:
        found = self.brokers[broker].replicas.get("orders", 0)
        assert found is not None
        return found

    @property
    def leader(self) -> Partition | None:
        for broker in self.brokers.values():
            partition = broker.replicas.get("orders", 0)
            if partition is not None and partition.is_leader:
                return partition
        return None

    async def produce(
        self,
        count: int = 1,
        *,
        acks: int = -1,
        timeout_ms: int = 20_000,
        records: bytearray | None = None,
    ) -> int:
        """The error code of one Produce to the leader."""
        leader = self.leader
        assert leader is not None
        channel = await Channel.connect(*self.brokers[leader.node_id].address)
        try:
            data = PartitionProduceData(index=0, records=memoryview(records or batch(count)))
            topic = TopicProduceData(name="orders", partition_data=[data])
            request = ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=[topic])
            answer: Any = await channel.send(request, version=9)
            return int(answer.responses[0].partition_responses[0].error_code)
        finally:
            channel.abort("done")

    async def ask(self, broker: int, request: Any, version: int) -> Any:
        channel = await Channel.connect(*self.brokers[broker].address)
        try:
            return await channel.send(request, version=version)
        finally:
            channel.abort("done")


def play(data: Path, test: Play, **settings: object) -> None:
    async def run(keeper: Keeper, *brokers: Server) -> None:
        async with asyncio.timeout(60):
            await test(Cluster(keeper, brokers))

    run_with(data, [1, 2, 3], run, **settings)


def test_what_is_acknowledged_by_all_is_in_all_logs(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([1, 2, 3])
        for _ in range(20):
            assert await cluster.produce(3) == 0
        assert cluster.at(1).high_watermark == 60
        for broker in (2, 3):
            assert cluster.at(broker).log.log_end_offset == 60
        assert cluster.at(1).isr == [1, 2, 3]

    play(tmp_path, test)


def test_with_durability_disk_all_logs_have_flushed_what_is_acknowledged(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3, 1])
        for _ in range(5):
            assert await cluster.produce(3) == 0
        for broker in (1, 2, 3):
            assert cluster.at(broker).log.flushed_end_offset >= 15

    play(tmp_path, test, durability="disk")


def test_a_follower_that_stops_leaves_the_isr_and_who_waits_is_answered(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([1, 2, 3], min_insync_replicas="2")
        assert await cluster.produce() == 0
        follower = cluster.brokers[3]
        assert follower.replicas.fetchers is not None
        await follower.replicas.fetchers.close()
        assert await cluster.produce() == 0
        assert cluster.at(1).isr == [1, 2]

    play(tmp_path, test, replica_lag_time_max_ms=300)


def test_below_the_minimum_isr_nothing_is_acknowledged_by_all(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([1, 2, 3], min_insync_replicas="3")
        assert await cluster.produce() == 0
        follower = cluster.brokers[3]
        assert follower.replicas.fetchers is not None
        await follower.replicas.fetchers.close()
        assert await cluster.produce(acks=1) == 0
        await until(lambda: cluster.at(1).isr == [1, 2], "it has left")
        assert await cluster.produce() == ErrorCode.NOT_ENOUGH_REPLICAS
        assert cluster.at(1).high_watermark == 1

    play(tmp_path, test, replica_lag_time_max_ms=300)


def test_when_the_leader_goes_another_one_goes_on_with_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        for _ in range(5):
            assert await cluster.produce(2) == 0
        await cluster.brokers.pop(2).stop()
        await until(lambda: cluster.leader is not None, "it is led again")
        leader = cluster.leader
        assert leader is not None
        assert (leader.node_id, leader.log.log_end_offset) == (3, 10)
        await until(lambda: leader.knows_its_latest_offset, "the high watermark comes")
        assert await cluster.produce() == 0
        assert leader.high_watermark == 11

    play(tmp_path, test)


def test_a_leader_that_is_stopped_comes_back_as_a_follower_and_joins(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        assert await cluster.produce(2) == 0
        stopped = cluster.brokers.pop(2)
        await stopped.stop()
        await until(lambda: cluster.leader is not None, "it is led again")
        assert await cluster.produce(2) == 0
        again = Server(stopped.config, connector=cluster.keeper)
        cluster.brokers[2] = again
        try:
            await again.start()
            leader = cluster.leader
            assert leader is not None
            await until(lambda: sorted(leader.isr) == [2, 3], "it joins")
            assert await cluster.produce(2) == 0
            assert cluster.at(2).log.log_end_offset == 6
        finally:
            await again.stop()

    play(tmp_path, test)


def test_records_are_deleted_in_all_live_replicas_before_that_is_said(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([1, 2, 3])
        for _ in range(4):
            assert await cluster.produce(2) == 0
        partition = DeleteRecordsPartition(partition_index=0, offset=5)
        topic = DeleteRecordsTopic(name="orders", partitions=[partition])
        request = DeleteRecordsRequest(topics=[topic], timeout_ms=20_000)
        ((told,),) = [t.partitions for t in (await cluster.ask(1, request, 2)).topics]
        assert (told.error_code, told.low_watermark) == (0, 5)
        assert [cluster.at(broker).log.log_start_offset for broker in (1, 2, 3)] == [5, 5, 5]
        follower = cluster.brokers[3]
        assert follower.replicas.fetchers is not None
        await follower.replicas.fetchers.close()
        partition.offset, request.timeout_ms = 7, 300
        ((told,),) = [t.partitions for t in (await cluster.ask(1, request, 2)).topics]
        assert (told.error_code, told.low_watermark) == (ErrorCode.REQUEST_TIMED_OUT, 5)
        assert cluster.at(1).log.log_start_offset == 7

    play(tmp_path, test)


def test_followers_are_told_the_logs_end_and_consumers_what_is_committed(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([1, 2], min_insync_replicas="2")
        assert await cluster.produce(3) == 0
        fetchers = cluster.brokers[2].replicas.fetchers
        assert fetchers is not None
        await fetchers.close()
        assert await cluster.produce(2, acks=1) == 0
        for replica_id, offset in ((-1, 3), (2, 5)):
            wanted = ListOffsetsPartition(current_leader_epoch=-1, timestamp=-1)
            topics = [ListOffsetsTopic(name="orders", partitions=[wanted])]
            request = ListOffsetsRequest(replica_id=replica_id, topics=topics)
            ((told,),) = [t.partitions for t in (await cluster.ask(1, request, 5)).topics]
            assert (told.error_code, told.offset) == (0, offset)

    play(tmp_path, test)


def test_a_consumer_reads_from_the_follower_in_its_rack(tmp_path: Path) -> None:
    async def fetch(cluster: Cluster, broker: int, offset: int) -> Any:
        partition = FetchPartition(
            partition=0, fetch_offset=offset, current_leader_epoch=-1, partition_max_bytes=1 << 20
        )
        request = FetchRequest(
            max_wait_ms=10_000,
            min_bytes=1,
            topics=[FetchTopic(topic="orders", partitions=[partition])],
            rack_id="rack-2",
        )
        ((told,),) = [t.partitions for t in (await cluster.ask(broker, request, 12)).responses]
        return told

    async def run() -> None:
        keeper = await Keeper.open()
        selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
        brokers = [
            server(keeper, tmp_path, n, broker_rack=f"rack-{n}", replica_selector_class=selector)
            for n in (1, 2)
        ]
        try:
            for broker in brokers:
                await broker.start()
            cluster = Cluster(keeper, tuple(brokers))
            await cluster.create([1, 2])
            assert await cluster.produce(2) == 0
            told = await fetch(cluster, 1, 0)
            assert (told.error_code, told.preferred_read_replica, told.records) == (0, 2, b"")
            told = await fetch(cluster, 2, 0)
            assert (told.error_code, told.high_watermark) == (0, 2)
            assert [header.last_offset for _, header in iter_batches(told.records)] == [1]
            waiting = asyncio.create_task(fetch(cluster, 2, 2))
            assert await cluster.produce(1) == 0
            told = await waiting
            assert [header.last_offset for _, header in iter_batches(told.records)] == [2]
        finally:
            for broker in brokers:
                await broker.stop()
            await keeper.close()

    asyncio.run(run())


def test_a_producer_that_repeats_itself_to_the_next_leader_writes_nothing_twice(
    tmp_path: Path,
) -> None:
    """What a leader knows of producers, its followers know: they have the batches."""

    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        for sequence in (0, 2):
            assert await cluster.produce(records=idempotent(700, sequence, 2)) == 0
        await cluster.brokers.pop(2).stop()
        await until(lambda: cluster.leader is not None, "it is led again")
        assert await cluster.produce(records=idempotent(700, 2, 2)) == 0
        leader = cluster.leader
        assert leader is not None
        assert leader.log.log_end_offset == 4
        gap = await cluster.produce(records=idempotent(700, 6, 2))
        assert gap == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert await cluster.produce(records=idempotent(700, 4, 2)) == 0
        assert leader.log.log_end_offset == 6

    play(tmp_path, test)


def test_what_is_there_already_is_a_success_only_once_it_is_committed(tmp_path: Path) -> None:
    """DUPLICATE_SEQUENCE_NUMBER is one to every client: for batches whose offsets are forgotten."""

    async def test(cluster: Cluster) -> None:
        await cluster.create([1, 2])
        follower = cluster.brokers[2]
        assert follower.replicas.fetchers is not None
        await follower.replicas.fetchers.close()
        for sequence in range(9):
            assert await cluster.produce(acks=1, records=idempotent(700, sequence)) == 0
        assert cluster.at(1).high_watermark == 0
        early = await cluster.produce(timeout_ms=0, records=idempotent(700, 1))
        assert early == ErrorCode.REQUEST_TIMED_OUT
        late = await cluster.produce(records=idempotent(700, 1))
        assert cluster.at(1).high_watermark == 9
        assert late == ErrorCode.DUPLICATE_SEQUENCE_NUMBER
        assert cluster.at(1).isr == [1]
        assert cluster.at(1).log.log_end_offset == 9

    play(tmp_path, test, replica_lag_time_max_ms=1_000)


def test_a_producer_that_asks_the_wrong_broker_is_told_the_right_one(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([1, 2])
        await until(lambda: 2 in cluster.brokers[2].metadata.brokers, "the brokers are known")
        data = PartitionProduceData(index=0, records=memoryview(batch(1)))
        topic = TopicProduceData(name="orders", partition_data=[data])
        request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[topic])
        for version in (9, 10):
            answer = await cluster.ask(2, request, version)
            (told,) = answer.responses[0].partition_responses
            assert told.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (told.current_leader.leader_id, told.current_leader.leader_epoch) == (
            1,
            cluster.at(1).leader_epoch,
        )
        ports = [(one.node_id, one.port) for one in answer.node_endpoints]
        assert ports == [(1, cluster.brokers[1].address[1])]

    play(tmp_path, test)
