"""aiokafka's admin client."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode
from tests.interop.aiokafka.adapter import (
    admin,
    admin_client,
    aiokafka,
    asynchronous,
    consumer,
    create_topic,
    producer,
    take,
)
from tests.support.waiting import eventually_true

pytestmark = pytest.mark.interop


@asynchronous
async def test_a_topic_is_created_described_enlarged_and_deleted(
    bootstrap: str, unused: str
) -> None:
    async with admin_client(bootstrap) as client:
        new = admin.NewTopic(unused, 2, 1, topic_configs={"retention.ms": "1234"})
        (created,) = (await client.create_topics([new])).topic_errors
        assert created[1] == ErrorCode.NONE
        (again,) = (await client.create_topics([new])).topic_errors
        assert again[1] == ErrorCode.TOPIC_ALREADY_EXISTS
        assert unused in await client.list_topics()
        (topic,) = await client.describe_topics([unused])
        assert topic["error_code"] == 0
        assert sorted(partition["partition"] for partition in topic["partitions"]) == [0, 1]

        await client.create_partitions({unused: admin.NewPartitions(3)})
        with pytest.raises(aiokafka.errors.InvalidPartitionsError):
            await client.create_partitions({unused: admin.NewPartitions(1)})

        async def has_three() -> bool:
            (topic,) = await client.describe_topics([unused])
            return len(topic["partitions"]) == 3

        await eventually_true(has_three, "three partitions")
        (deleted,) = (await client.delete_topics([unused])).topic_error_codes
        assert deleted[1] == ErrorCode.NONE

        async def gone() -> bool:
            return unused not in await client.list_topics()

        await eventually_true(gone, "the topic is gone")


@asynchronous
async def test_settings_are_described(bootstrap: str, unused: str) -> None:
    await create_topic(bootstrap, unused, config={"retention.ms": "1234"})
    config = aiokafka.admin.config_resource
    async with admin_client(bootstrap) as client:
        resource = config.ConfigResource(config.ConfigResourceType.TOPIC, unused)
        (answer,) = await client.describe_configs([resource])
        (described,) = answer.resources
        assert described[0] == 0
        settings = {entry[0]: entry[1] for entry in described[4]}
        assert settings["retention.ms"] == "1234"
        assert settings["segment.bytes"] == str(1 << 30)


@asynchronous
async def test_groups_and_the_cluster_are_described(bootstrap: str, unused: str) -> None:
    await create_topic(bootstrap, unused)
    async with producer(bootstrap) as writer:
        await writer.send_and_wait(unused, b"value")
    async with (
        admin_client(bootstrap) as client,
        consumer(bootstrap, unused, group_id=unused) as member,
    ):
        await take(member, 1)
        await member.commit()
        cluster = await client.describe_cluster()
        (broker,) = cluster["brokers"]
        assert f"{broker['host']}:{broker['port']}" == bootstrap
        assert unused in {group[0] for group in await client.list_consumer_groups()}
        assert await client.find_coordinator(unused) == broker["node_id"]
        (answer,) = await client.describe_consumer_groups([unused])
        (group,) = answer.groups
        assert group[:5] == (0, unused, "Stable", "consumer", "roundrobin")
        offsets = await client.list_consumer_group_offsets(unused)
        assert {(p.topic, p.partition): o.offset for p, o in offsets.items()} == {(unused, 0): 1}
