"""A topic whose znode can't be read: brokers keep it, its records and the groups' offsets, whoever is elected."""

from __future__ import annotations

from pathlib import Path

from ottla import TopicPartition, aio
from ottla.broker.internal_topics import CONSUMER_OFFSETS
from ottla.coordination import znodes
from ottla.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from tests.broker.test_group_failover import GROUP, TOPIC, Trio, fill, run, until

PATH = znodes.topic_path(TOPIC)


async def committed(trio: Trio) -> int:
    """The group's offset as its coordinator has it; -1 for none."""
    await until(trio.coordinator, "somebody coordinates")
    coordinator = trio.coordinator()
    assert coordinator is not None
    request = OffsetFetchRequest(
        group_id=GROUP, topics=[OffsetFetchRequestTopic(name=TOPIC, partition_indexes=[0])]
    )
    answer = await trio.ask(coordinator, request, 5)
    offset: int = answer.topics[0].partitions[0].committed_offset  # type: ignore[attr-defined]
    return offset


def test_a_topic_that_cannot_be_read_keeps_its_records_and_the_groups_offsets(
    tmp_path: Path,
) -> None:
    """A new controller does not know it; each broker registers anew under it, and is told all there is."""

    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.create_topic(TOPIC, 4)
            await fill(trio, 40)
            await admin.alter_group_offsets(GROUP, {TopicPartition(TOPIC, 0): 7})
        hand = await trio.sessions[1].keeper.connect()
        good = await hand.get(PATH)
        await hand.set(PATH, b"by hand")
        for node in (1, 2, 3):
            session = trio.brokers[node].session
            epoch = session.broker_epoch
            await trio.sessions[node].keeper.expire(session.store.session_id)
            await until(lambda s=session, e=epoch: s.broker_epoch > e, "it is registered anew")  # type: ignore[misc]
        await until(
            lambda: any(broker.controller.is_active for broker in trio.brokers.values()),
            "there is a controller",
        )
        async with aio.Admin(trio.bootstrap) as admin:  # which goes on controlling
            await admin.create_topic("another", 3)
        for node, broker in trio.brokers.items():
            await until(lambda b=broker: "another" in b.metadata.topics, "it is told")  # type: ignore[misc]
            assert len(broker.metadata.topics[TOPIC].partitions) == 4
            assert (tmp_path / str(node) / f"{TOPIC}-0").is_dir(), "its log is out of service"
        assert await committed(trio) == 7
        await hand.set(PATH, good.data)
        await fill(trio, 40, first=40)  # it is led again, and takes records
        assert await committed(trio) == 7
        async with aio.Admin(trio.bootstrap) as admin:
            ends = await admin.list_offsets({(TOPIC, n): "latest" for n in range(4)})
            assert [end.offset for end in ends.values() if end is not None] == [20] * 4

    run(tmp_path, play)


def test_a_broker_starts_though_the_groups_topic_cannot_be_read(tmp_path: Path) -> None:
    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.create_topic(TOPIC, 1)
            await admin.alter_group_offsets(GROUP, {TopicPartition(TOPIC, 0): 0})
        hand = await trio.sessions[1].keeper.connect()
        path = znodes.topic_path(CONSUMER_OFFSETS)
        good = await hand.get(path)
        await hand.set(path, b"by hand")
        await trio.stop(1)
        await trio.start(1)
        await hand.set(path, good.data)
        assert await committed(trio) == 0
        assert trio.brokers[1].groups.partition_for(GROUP) in range(3)

    run(
        tmp_path, play, nodes=(1,), offsets_topic_replication_factor=1, default_replication_factor=1
    )
