"""Our consumer and our producer where leaders move: truncated logs (KIP-320), followers (KIP-392), sequences."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ottla import TopicPartition, aio
from ottla.client.errors import LogTruncated
from tests.broker.test_group_failover import Trio, run, until

T0 = TopicPartition("t", 0)
ALONE = {"auto_leader_rebalance_enable": "false", "controlled_shutdown_enable": "false"}
"""For a test in which nobody is left to hand over to."""


async def send(trio: Trio, values: range, **settings: Any) -> None:
    """Numbers into t-0."""
    async with aio.Producer(trio.bootstrap, **settings) as producer:
        for number in values:
            await producer.send("t", value=b"%d" % number, partition=0)
        await producer.flush()


async def read(consumer: aio.Consumer, count: int) -> list[int]:
    """So many numbers."""
    found: list[int] = []
    while len(found) < count:
        found += [int(record.value or b"") for record in await consumer.poll(1.0)]
    return found


async def leader_of(admin: aio.Admin) -> tuple[int, set[int]]:
    """Who leads t-0, and who is in sync."""
    (partition,) = (await admin.describe_topic("t")).partitions
    return partition.leader, set(partition.isr)


async def lose_ten_records(trio: Trio, admin: aio.Admin, consumer: aio.Consumer) -> None:
    """Let the leader alone write ten records, which the consumer reads, and then a replica without them lead."""
    await admin.create_topic("t", 1, 2)
    await send(trio, range(10))
    leader, isr = await leader_of(admin)
    (follower,) = isr - {leader}
    await trio.stop(follower)
    await send(trio, range(10, 20), acks=1, idempotent=False)
    await consumer.assign([T0])
    await consumer.seek(T0, 0)
    assert await read(consumer, 20) == list(range(20))
    await trio.stop(leader)
    await trio.start(follower)
    outcome = await admin.elect_leaders([T0], unclean=True)
    assert outcome == {T0: None}
    await send(trio, range(100, 103))


def test_a_consumer_hears_of_records_that_were_replaced_and_reads_what_stands_there_now(
    tmp_path: Path,
) -> None:
    async def play(trio: Trio) -> None:
        async with (
            aio.Admin(trio.bootstrap) as admin,
            aio.Consumer(bootstrap=trio.bootstrap, auto_offset_reset="none") as consumer,
        ):
            await lose_ten_records(trio, admin, consumer)
            with pytest.raises(LogTruncated) as told:
                await read(consumer, 1)
            assert told.value.diverged == {T0: 10}
            assert await read(consumer, 3) == [100, 101, 102]

    run(tmp_path, play, **ALONE)


def test_a_consumer_with_a_reset_policy_goes_on_where_the_logs_part(tmp_path: Path) -> None:
    async def play(trio: Trio) -> None:
        async with (
            aio.Admin(trio.bootstrap) as admin,
            aio.Consumer(bootstrap=trio.bootstrap, auto_offset_reset="latest") as consumer,
        ):
            await lose_ten_records(trio, admin, consumer)
            assert await read(consumer, 3) == [100, 101, 102]

    run(tmp_path, play, **ALONE)


def test_a_consumer_reads_from_a_replica_in_its_rack_and_from_others_when_that_is_gone(
    tmp_path: Path,
) -> None:
    async def play(trio: Trio) -> None:
        for node in (1, 2, 3):
            await trio.start(node, broker_rack=f"rack-{node}")
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.create_topic("t", 1, 3)
            await send(trio, range(10))
            leader, _ = await leader_of(admin)
            near = next(node for node in trio.brokers if node != leader)
            async with aio.Consumer(
                bootstrap=trio.bootstrap,
                client_rack=f"rack-{near}",
                auto_offset_reset="earliest",
                fetch_max_wait_ms=50,
            ) as consumer:
                await consumer.assign([T0])
                assert await read(consumer, 10) == list(range(10))
                state = consumer._core.positions.get(T0)
                await send(trio, range(10, 20))
                assert await read(consumer, 10) == list(range(10, 20))
                assert state.preferred_replica == near
                await trio.stop(near)
                await send(trio, range(20, 30))
                assert await read(consumer, 10) == list(range(20, 30))
                assert state.preferred_replica == -1
                await trio.start(near, broker_rack=f"rack-{near}")
                await send(trio, range(30, 40))
                assert await read(consumer, 10) == list(range(30, 40))

    selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    run(tmp_path, play, nodes=(), replica_selector_class=selector)


def test_records_of_an_idempotent_producer_are_in_order_and_single_across_leaders(
    tmp_path: Path,
) -> None:
    """Invariant 37: many requests are in flight each time that a leader goes."""

    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.create_topic("t", 1, 3)
            sent = 0
            async with aio.Producer(trio.bootstrap, linger_ms=0, batch_size=200) as producer:
                deliveries = []

                async def send_on() -> None:
                    nonlocal sent
                    while True:
                        value = b"%d" % sent
                        deliveries.append(await producer.send("t", value=value, partition=0))
                        sent += 1
                        await asyncio.sleep(0.001)

                sending = asyncio.create_task(send_on())
                for _ in range(4):
                    start = len(deliveries)
                    await until(lambda s=start: len(deliveries) > s + 100, "it sends")
                    leader, _ = await leader_of(admin)
                    await trio.stop(leader)
                    start = len(deliveries)
                    await until(lambda s=start: len(deliveries) > s + 100, "it sends on")
                    await trio.start(leader)
                sending.cancel()
                await producer.flush()
                offsets = [(await delivery).offset for delivery in deliveries]
            async with aio.Consumer(
                bootstrap=trio.bootstrap, auto_offset_reset="earliest"
            ) as consumer:
                await consumer.assign([T0])
                assert await read(consumer, sent) == list(range(sent))
            assert offsets == sorted(set(offsets))

    run(tmp_path, play)


def test_clients_follow_brokers_that_come_back_under_other_addresses(tmp_path: Path) -> None:
    """At the end nobody is left where the clients were told to begin."""

    async def play(trio: Trio) -> None:
        bootstrap, often = trio.bootstrap, 50
        async with (
            aio.Admin(bootstrap, metadata_max_age_ms=often) as admin,
            aio.Producer(bootstrap, metadata_max_age_ms=often) as producer,
            aio.Consumer(
                bootstrap=bootstrap, auto_offset_reset="earliest", metadata_max_age_ms=often
            ) as consumer,
        ):
            await admin.create_topic("t", 1, 3)
            await consumer.assign([T0])
            clusters = (admin.cluster, producer._core.cluster, consumer._core.cluster)

            def is_known(node: int) -> bool:
                _, port = trio.brokers[node].address
                known = [cluster.metadata.nodes.get(node) for cluster in clusters]
                return all(each is not None and each.port == port for each in known)

            for number, node in enumerate(list(trio.brokers)):
                await (await producer.send("t", value=b"%d" % number, partition=0))
                assert await read(consumer, 1) == [number]
                await trio.stop(node)
                trio.forget_port(node)
                await trio.start(node)
                await until(lambda node=node: is_known(node), "every client knows where it is now")
            await (await producer.send("t", value=b"3", partition=0))
            assert await read(consumer, 1) == [3]
            assert not set(bootstrap.split(",")) & set(trio.bootstrap.split(","))
            await admin.create_topic("u", 1, 3)

    run(tmp_path, play)


def test_an_idle_client_hears_that_its_broker_has_gone(tmp_path: Path) -> None:
    """Else it would go by what it knows until everybody has moved."""

    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.list_topics()
            (only,) = admin.cluster.connections.connected()
            ports = {broker.address[1]: node for node, broker in trio.brokers.items()}
            await trio.stop(ports[only.port])
            await until(
                lambda: (
                    {channel.port for channel in admin.cluster.connections.connected()}
                    & (ports.keys() - {only.port})
                ),
                "it has asked another one",
            )

    run(tmp_path, play)


def test_the_admin_client_finds_the_next_controller(tmp_path: Path) -> None:
    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            for number in range(4):
                before = (await admin.describe_cluster()).controller_id
                assert before in trio.brokers
                await trio.stop(before)
                await admin.create_topic(f"t-{number}", 1, 2)
                await admin.alter_config(topic=f"t-{number}", set={"retention.ms": "1000"})
                assert await admin.list_partition_reassignments() == {}
                await trio.start(before)
            assert await admin.list_topics() == [f"t-{number}" for number in range(4)]

    run(tmp_path, play, controlled_shutdown_retry_backoff_ms=100)
