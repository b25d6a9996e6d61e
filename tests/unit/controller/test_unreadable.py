"""Znodes of topics that can't be read: they are left alone, and the cluster has its controller all the same."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.controller import second_look
from ottla.controller.controller import Controller
from ottla.controller.topics import NewPartitions, NewTopic
from ottla.coordination import znodes
from ottla.coordination.store import Znode
from ottla.coordination.znodes import TopicAssignment
from ottla.errors import ErrorCode
from ottla.messages.alter_partition import (
    AlterPartitionPartitionData,
    AlterPartitionRequest,
    AlterPartitionTopicData,
)
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from tests.support.waiting import become

BY_HAND = "/brokers/topics/by-hand"
STATE = "/brokers/topics/orders/partitions/0/state"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look, "RETRY_S", 0.001)


class Three:
    """Three brokers and the controllers of the first two; broker 3's session is the hand that writes."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.first: Controller
        self.second: Controller

    async def start(self) -> None:
        await self.cluster.start(1, 2, 3)
        self.first = await self.cluster.started(1)
        self.second = await self.cluster.started(2)

    async def fail_over(self) -> None:
        """The first broker dies, and the second one's controller takes office."""
        await self.cluster.keeper.expire(self.cluster.sessions[1].session_id)
        await become(lambda: self.second.is_active)
        await self.told()

    async def told(self) -> None:
        for broker_id in (2, 3):
            await self.second._announcer.idle(broker_id)

    @property
    def hand(self) -> Any:
        return self.cluster.sessions[3]

    async def spoil(self, path: str, data: bytes = b"nonsense") -> Znode:
        """What stood there before."""
        good: Znode = await self.hand.get(path)
        await self.hand.set(path, data)
        return good


@pytest.fixture
def three(cluster: Any) -> Three:
    return Three(cluster)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b'{"version":3,"partitions":{"0":[]}}',
        b'{"version":3,"partitions":{}}',
        b'{"version":3,"partitions":{"0":[99999999999]}}',
    ],
)
async def test_a_topic_that_cannot_be_read_leaves_the_rest_of_the_cluster_with_a_controller(
    cluster: Any, three: Three, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's hand, or a tool, leaves a topic's znode that can't be read; then the controller dies."""
    await three.start()
    await three.first.create_topics([NewTopic("orders", assignments={0: [1, 2, 3]})])
    await three.hand.create(BY_HAND, data)
    await three.fail_over()
    state = three.second.state
    assert state is not None
    await become(lambda: state.topics["orders"].partitions[0].leader == 2)
    (made,) = await three.second.create_topics([NewTopic("more", assignments={0: [2]})])
    assert made.error is ErrorCode.NONE
    assert (await three.hand.get(BY_HAND)).data == data
    told = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert any(BY_HAND in fields.get("reason", "") for fields in told)


async def test_a_topic_that_can_be_read_again_is_taken_up(cluster: Any, three: Three) -> None:
    await three.start()
    await three.hand.create(BY_HAND, b"")
    await three.fail_over()
    await three.hand.set(BY_HAND, b"still nonsense")  # it is looked at, and looked after still
    await three.hand.set(BY_HAND, TopicAssignment(bytes(range(16)), {0: (3, 2)}).encode())
    await become(lambda: cluster.brokers[3].replicas.get(("by-hand", 0)) == (3, 0))
    await become(lambda: "by-hand" in cluster.brokers[2].topics)


async def test_a_topic_that_could_not_be_read_and_is_taken_away_may_be_made_anew(
    cluster: Any, three: Three
) -> None:
    await three.start()
    await three.hand.create(BY_HAND, b"")
    await three.fail_over()
    (refused,) = await three.second.create_topics([NewTopic("by-hand")])
    assert refused.error is ErrorCode.TOPIC_ALREADY_EXISTS
    await three.hand.delete(BY_HAND)
    await become(
        lambda: three.second.state is not None and not three.second.state.unreadable_topics
    )
    (made,) = await three.second.create_topics([NewTopic("by-hand")])
    assert made.error is ErrorCode.NONE


@pytest.mark.parametrize("path", ["/brokers/topics/orders", STATE])
async def test_brokers_that_know_a_topic_which_cannot_be_read_do_not_take_it_for_gone(
    cluster: Any, three: Three, path: str
) -> None:
    """What a broker is told first names all topics, and it forgets others, with the groups' offsets in them."""
    await three.start()
    await three.first.create_topics([NewTopic("orders", assignments={0: [2, 3]})])
    good = await three.spoil(path)
    await three.fail_over()
    assert cluster.brokers[2].topics["orders"] == {0: 2}
    assert not cluster.brokers[2].deleted
    await three.hand.set(path, good.data)
    await become(lambda: ("orders", 0) in cluster.brokers[3].replicas)
    await cluster.keeper.expire(cluster.sessions[2].session_id)  # and it is controlled again
    third = await cluster.started(3)
    await become(lambda: third.is_active)
    await become(lambda: cluster.brokers[3].replicas[("orders", 0)][0] == 3)


async def test_a_partition_whose_state_cannot_be_read_is_left_alone_and_the_others_go_on(
    cluster: Any, three: Three
) -> None:
    await three.start()
    await three.first.create_topics([NewTopic("orders", assignments={0: [1, 2, 3], 1: [1, 2, 3]})])
    good = await three.spoil(STATE)
    await three.fail_over()
    state = three.second.state
    assert state is not None
    await become(lambda: state.topics["orders"].partitions[1].leader == 2)
    assert (await three.hand.get(STATE)).data == b"nonsense"
    assert 0 not in state.topics["orders"].partitions
    refusal = await three.second.alter_partition_reassignments(_to_three("orders"))
    assert refusal.responses[0].partitions[0].error_code
    assert (await three.hand.get("/brokers/topics/orders")).stat.version == 0
    await three.hand.set(STATE, good.data)
    await become(lambda: cluster.brokers[2].replicas.get(("orders", 0), (0, 0))[0] == 2)


def _to_three(topic: str) -> AlterPartitionReassignmentsRequest:
    wanted = ReassignablePartition(partition_index=0, replicas=[3])
    return AlterPartitionReassignmentsRequest(
        topics=[ReassignableTopic(name=topic, partitions=[wanted])]
    )


async def test_a_reassignment_of_a_partition_whose_state_cannot_be_read_deletes_no_replica(
    cluster: Any, three: Three
) -> None:
    """A partition without a state has no records; one whose state can't be read may have."""
    await three.start()
    await three.first.create_topics([NewTopic("orders", assignments={0: [1, 2]})])
    await three.first.alter_partition_reassignments(_to_three("orders"))
    await three.spoil(STATE)
    await three.fail_over()
    assert ("orders", 0) not in cluster.brokers[2].deleted
    assert three.second.state is not None
    assert three.second.state.topics["orders"].removing == {0: (1, 2)}


async def test_a_state_that_is_spoilt_under_the_controller_stops_nothing_else(
    cluster: Any, three: Three
) -> None:
    await three.start()
    await three.fail_over()
    await three.second.create_topics([NewTopic("orders", assignments={0: [3, 2], 1: [3, 2]})])
    session = await cluster.keeper.connect()
    await session.set(STATE, b"nonsense")
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    await become(lambda: cluster.brokers[2].replicas[("orders", 1)][0] == 2)
    await become(lambda: not three.second.state.stale)  # type: ignore[union-attr]
    assert (await session.get(STATE)).data == b"nonsense"


async def test_what_is_asked_of_a_topic_that_cannot_be_read_is_refused_and_not_denied(
    cluster: Any, three: Three
) -> None:
    """That there is no such topic would be a success for whoever wants it away."""
    await three.start()
    await three.hand.create(BY_HAND, b"")
    await three.hand.create(znodes.delete_topic_path("by-hand"), b"")
    await three.fail_over()
    (deleted,) = await three.second.delete_topics(["by-hand"])
    (grown,) = await three.second.create_partitions([NewPartitions("by-hand", 3)])
    assert deleted.error is grown.error is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert deleted.message is not None
    assert BY_HAND in deleted.message
    # What was asked for before is done once it can be.
    assert await three.hand.exists(znodes.delete_topic_path("by-hand")) is not None
    await three.hand.set(BY_HAND, TopicAssignment(bytes(range(16)), {0: (2,)}).encode())
    await become(lambda: cluster.brokers[2].deleted == [("by-hand", 0)])


async def test_a_topic_of_which_a_state_cannot_be_read_can_be_deleted(
    cluster: Any, three: Three
) -> None:
    await three.start()
    await three.first.create_topics([NewTopic("orders", assignments={0: [2, 3]})])
    await three.spoil(STATE)
    await three.fail_over()
    (deleted,) = await three.second.delete_topics(["orders"])
    assert deleted.error is ErrorCode.NONE
    await three.told()
    assert "orders" not in cluster.brokers[3].topics
    assert ("orders", 0) in cluster.brokers[3].deleted
    assert not three.second.state.unreadable_partitions  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["/brokers/topics/orders", STATE])
async def test_a_leader_whose_partition_cannot_be_read_is_to_ask_again(
    cluster: Any, three: Three, path: str
) -> None:
    """That it is unknown would be an answer for good: the leader would wait for a newer state than there is."""
    await three.start()
    await three.first.create_topics([NewTopic("orders", assignments={0: [2, 3]})])
    assert three.first.state is not None
    topic_id = three.first.state.topics["orders"].topic_id
    await three.spoil(path)
    await three.fail_over()
    state = three.second.state
    assert state is not None
    wanted = AlterPartitionPartitionData(
        partition_index=0, leader_epoch=0, partition_epoch=0, new_isr=[2]
    )
    response = await three.second.alter_partition(
        AlterPartitionRequest(
            broker_id=2,
            broker_epoch=state.brokers[2].epoch,
            topics=[AlterPartitionTopicData(topic_id=topic_id, partitions=[wanted])],
        )
    )
    (answer,) = response.topics[0].partitions
    assert ErrorCode(answer.error_code) is ErrorCode.UNKNOWN_SERVER_ERROR
