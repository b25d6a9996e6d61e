"""A topic that was deleted and made again while a broker was away: nothing of the old one counts in the new one."""

from __future__ import annotations

from pathlib import Path

from ottla import TopicPartition, aio
from ottla.broker.broker import Broker as Server
from ottla.broker.internal_topics import CONSUMER_OFFSETS
from ottla.controller.topics import NewTopic
from ottla.coordination import znodes
from ottla.coordination.embedded import Keeper
from ottla.messages.update_metadata import (
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataTopicState,
)
from tests.broker.test_group_failover import GROUP, TOPIC, Trio, run, until
from tests.broker.test_several_brokers import TOPIC_ID, codes, lead, run_with, told
from tests.broker.test_unreadable_topic import committed

OTHER_ID = bytes(range(1, 17))


def test_offsets_committed_in_a_topic_do_not_count_in_one_that_is_made_again_under_its_name(
    tmp_path: Path,
) -> None:
    """The coordinator hears of neither the deletion nor the creation, only that there is another topic."""

    async def play(trio: Trio) -> None:
        controller = trio.brokers[1].controller
        groups = NewTopic(
            CONSUMER_OFFSETS, assignments={0: [2]}, configs={"cleanup.policy": "compact"}
        )
        topic = NewTopic(TOPIC, assignments={0: [1]})
        await controller.create_topics([groups, topic])
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.alter_group_offsets(GROUP, {TopicPartition(TOPIC, 0): 7})
        assert await committed(trio) == 7
        state = controller.state
        assert state is not None
        trio.sessions[2].hold()
        await until(lambda: 2 not in state.brokers, "the coordinator's session has expired")
        await controller.delete_topics([TOPIC])
        await controller.create_topics([topic])
        made = state.topics[TOPIC].topic_id
        trio.sessions[2].release()
        away = trio.brokers[2]
        await until(lambda: away.metadata.topic_id(TOPIC) == made, "it knows the new one")
        assert await committed(trio) == -1

    run(tmp_path, play, nodes=(1, 2), offsets_topic_num_partitions=1)


def test_settings_of_a_topic_that_is_led_already_are_not_forgotten_with_the_one_before(
    tmp_path: Path,
) -> None:
    """LeaderAndIsr, before which a topic's settings are read, comes before the UpdateMetadata that tells of it."""

    def known(topic_id: bytes) -> UpdateMetadataRequest:
        partition = UpdateMetadataPartitionState(
            partition_index=0, leader=1, leader_epoch=0, isr=[1, 2], replicas=[1, 2]
        )
        topic = UpdateMetadataTopicState(
            topic_name="orders", topic_id=topic_id, partition_states=[partition]
        )
        return UpdateMetadataRequest(controller_epoch=100, topic_states=[topic])

    async def order(keeper: Keeper, broker: Server) -> None:
        assert codes(await told(broker, lead(1, 0), 7)) == [0, 0]
        await told(broker, known(TOPIC_ID), 8)
        own = {"cleanup.policy": "compact"}
        hand = await keeper.connect()
        await hand.create(znodes.config_path("topics", "orders"), znodes.encode_config(own))
        again = lead(1, 0)
        again.topic_states[0].topic_id = OTHER_ID
        assert codes(await told(broker, again, 7)) == [0, 0]
        await told(broker, known(OTHER_ID), 8)
        assert broker.metadata.topic_id("orders") == OTHER_ID
        assert broker.topic_overrides("orders") == own

    run_with(tmp_path, [1], order)
