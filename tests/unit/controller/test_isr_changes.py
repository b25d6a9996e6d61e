"""What a leader may make of its ISR, and what it is told if it may not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.controller.cluster_state import PartitionId
from ottla.controller.topics import NewTopic
from ottla.coordination import znodes
from ottla.coordination.bootstrap import register_broker
from ottla.coordination.znodes import BrokerRegistration, Endpoint, LeaderAndIsr
from ottla.errors import ErrorCode
from ottla.messages.alter_partition import (
    AlterPartitionBrokerState,
    AlterPartitionPartitionData,
    AlterPartitionRequest,
    AlterPartitionTopicData,
)
from ottla.messages.controlled_shutdown import ControlledShutdownRequest
from ottla.messages.leader_and_isr import LeaderAndIsrRequest
from tests.support.waiting import become, eventually_true

PATH = znodes.partition_state_path("orders", 0)


class Orders:
    """Topic orders, led by broker 1 with 2 in its ISR; 3 has a replica too."""

    def __init__(
        self, cluster: Any, controller: Any, topic_id: bytes, epochs: dict[int, int]
    ) -> None:
        self.cluster = cluster
        self.controller = controller
        self.topic_id = topic_id
        self.epochs = epochs

    @property
    def now(self) -> LeaderAndIsr:
        state: LeaderAndIsr = self.controller.state.topics["orders"].partitions[0]
        return state

    def asked(self, isr: list[int], **fields: Any) -> AlterPartitionRequest:
        """Broker 1 asks for this ISR; ``fields`` are what else is not as it should be."""
        epochs = {**self.epochs, **fields.pop("epochs", {})}
        by_name = fields.pop("by_name", False)
        broker_id = fields.pop("broker_id", 1)
        broker_epoch = fields.pop("broker_epoch", epochs.get(broker_id, 0))
        topic = {"topic_name": "orders"} if by_name else {"topic_id": self.topic_id}
        topic |= fields.pop("topic", {})
        partition = AlterPartitionPartitionData(
            partition_index=fields.pop("index", 0),
            leader_epoch=fields.pop("leader_epoch", self.now.leader_epoch),
            partition_epoch=fields.pop("partition_epoch", self.now.partition_epoch),
            leader_recovery_state=fields.pop("recovery", 0),
            new_isr=isr if by_name else [],
            new_isr_with_epochs=[]
            if by_name
            else [
                AlterPartitionBrokerState(broker_id=member, broker_epoch=epochs.get(member, -1))
                for member in isr
            ],
        )
        assert not fields
        return AlterPartitionRequest(
            broker_id=broker_id,
            broker_epoch=broker_epoch,
            topics=[AlterPartitionTopicData(partitions=[partition], **topic)],
        )

    async def ask(self, isr: list[int], **fields: Any) -> ErrorCode:
        response = await self.controller.alter_partition(self.asked(isr, **fields))
        if response.error_code:
            return ErrorCode(response.error_code)
        (topic,) = response.topics
        (partition,) = topic.partitions
        if not partition.error_code:
            now = self.now
            assert (partition.leader_id, partition.leader_epoch) == (now.leader, now.leader_epoch)
            assert (tuple(partition.isr), partition.partition_epoch) == (
                now.isr,
                now.partition_epoch,
            )
            znode = await self.cluster.sessions[1].get(PATH)
            assert LeaderAndIsr.decode(PATH, znode.data, znode.stat.version) == now
        return ErrorCode(partition.error_code)


async def orders(cluster: Any) -> Orders:
    await cluster.start(1, 2, 3, 4)
    controller = await cluster.started(1)
    (created,) = await controller.create_topics([NewTopic("orders", assignments={0: [1, 2, 3]})])
    epochs = {broker_id: live.epoch for broker_id, live in controller.state.brokers.items()}
    subject = Orders(cluster, controller, created.topic_id, epochs)
    assert await subject.ask([1, 2]) is ErrorCode.NONE
    return subject


async def test_isr_shrinks_and_grows_under_the_same_leader_epoch(cluster: Any) -> None:
    subject = await orders(cluster)
    assert subject.now == LeaderAndIsr(1, (1, 2), 0, 1, 1)
    assert await subject.ask([1, 2, 3]) is ErrorCode.NONE
    assert await subject.ask([1], by_name=True) is ErrorCode.NONE
    assert subject.now == LeaderAndIsr(1, (1,), 0, 1, 3)
    told = cluster.brokers[4].requests
    await become(lambda: list(told[-1].topic_states[0].partition_states[0].isr) == [1])


async def test_what_is_so_already_is_a_success_even_under_an_old_partition_epoch(
    cluster: Any,
) -> None:
    subject = await orders(cluster)
    assert await subject.ask([2, 1], partition_epoch=0) is ErrorCode.NONE
    assert subject.now.partition_epoch == 1


@pytest.mark.parametrize(
    ("isr", "fields", "code"),
    [
        ([1], {"broker_epoch": 5}, ErrorCode.STALE_BROKER_EPOCH),
        ([1], {"broker_id": 9, "broker_epoch": 5}, ErrorCode.STALE_BROKER_EPOCH),
        ([1], {"partition_epoch": 0}, ErrorCode.INVALID_UPDATE_VERSION),
        ([1], {"partition_epoch": 2}, ErrorCode.NOT_CONTROLLER),
        ([1], {"leader_epoch": 1}, ErrorCode.NOT_CONTROLLER),
        ([1], {"leader_epoch": -1}, ErrorCode.FENCED_LEADER_EPOCH),
        ([2], {"broker_id": 2}, ErrorCode.INVALID_REQUEST),
        ([2], {}, ErrorCode.INVALID_REQUEST),
        ([], {}, ErrorCode.INVALID_REQUEST),
        ([1, 1], {}, ErrorCode.INVALID_REQUEST),
        ([1, 4], {}, ErrorCode.INVALID_REQUEST),
        ([1], {"recovery": 1}, ErrorCode.INVALID_REQUEST),
        ([1], {"recovery": 7}, ErrorCode.INVALID_REQUEST),
        ([1, 2, 3], {"epochs": {3: 1}}, ErrorCode.INELIGIBLE_REPLICA),
        ([1], {"index": 7}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ([1], {"topic": {"topic_id": bytes(15) + b"x"}}, ErrorCode.UNKNOWN_TOPIC_ID),
        (
            [1],
            {"by_name": True, "topic": {"topic_name": "nothing"}},
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ),
    ],
)
async def test_isr_that_may_not_be_is_refused(
    cluster: Any, isr: list[int], fields: dict[str, Any], code: ErrorCode
) -> None:
    subject = await orders(cluster)
    before = subject.now
    assert await subject.ask(isr, **fields) is code
    assert subject.now == before


async def test_replica_of_an_earlier_life_a_stopping_a_dead_or_a_distrusted_one_may_not_join(
    cluster: Any,
) -> None:
    """KIP-903, KIP-841, invariants 19 and 20."""
    subject = await orders(cluster)
    controller = subject.controller
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    await become(lambda: 3 not in controller.state.brokers)
    assert await subject.ask([1, 2, 3]) is ErrorCode.INELIGIBLE_REPLICA
    assert await subject.ask([1, 2, 3], by_name=True) is ErrorCode.OPERATION_NOT_ATTEMPTED
    again = await cluster.add_broker(3)
    await become(lambda: 3 in controller.state.brokers)
    assert await subject.ask([1, 2, 3]) is ErrorCode.INELIGIBLE_REPLICA
    request = ControlledShutdownRequest(broker_id=3, broker_epoch=again)
    assert not (await controller.controlled_shutdown(request)).error_code
    assert await subject.ask([1, 2, 3], epochs={3: again}) is ErrorCode.INELIGIBLE_REPLICA

    await cluster.keeper.expire(cluster.sessions[3].session_id)
    session = cluster.sessions[3] = await cluster.keeper.connect()
    registration = BrokerRegistration(
        3, (Endpoint("PLAINTEXT", "PLAINTEXT", "h", 1),), unclean=True
    )
    lossy = await register_broker(session, registration)
    await become(lambda: controller.state.is_unclean(3))
    assert await subject.ask([1, 2, 3], epochs={3: lossy}) is ErrorCode.INELIGIBLE_REPLICA
    await session.set(znodes.broker_path(3), registration._replace(unclean=False).encode())
    await become(lambda: not controller.state.is_unclean(3))
    short = registration._replace(unclean=False, short=frozenset({("orders", 0), ("other", 1)}))
    await session.set(znodes.broker_path(3), short.encode())
    await become(lambda: controller.state.may_lack(3, PartitionId("orders", 0)))
    assert not controller.state.may_lack(3, PartitionId("orders", 1))
    assert await subject.ask([1, 2, 3], epochs={3: lossy}) is ErrorCode.INELIGIBLE_REPLICA
    await session.set(znodes.broker_path(3), short._replace(short=frozenset()).encode())
    await become(lambda: not controller.state.may_lack(3, PartitionId("orders", 0)))
    assert await subject.ask([1, 2, 3], epochs={3: lossy}) is ErrorCode.NONE


async def test_a_leader_that_stops_may_still_let_others_join_and_then_hands_over_to_them(
    cluster: Any,
) -> None:
    subject = await orders(cluster)
    controller = subject.controller
    assert await subject.ask([1]) is ErrorCode.NONE
    request = ControlledShutdownRequest(broker_id=1, broker_epoch=subject.epochs[1])
    answer = await controller.controlled_shutdown(request)
    assert len(answer.remaining_partitions) == 1
    assert await subject.ask([1, 2]) is ErrorCode.NONE
    answer = await controller.controlled_shutdown(request)
    assert answer.remaining_partitions == []
    assert subject.now.leader == 2


async def test_state_that_somebody_else_wrote_is_told_of_and_not_overwritten(cluster: Any) -> None:
    subject = await orders(cluster)
    await cluster.sessions[2].set(PATH, LeaderAndIsr(1, (1, 3), 0, 1).encode())
    assert await subject.ask([1]) is ErrorCode.INVALID_UPDATE_VERSION
    assert subject.now == LeaderAndIsr(1, (1, 3), 0, 1, 2)
    assert await subject.ask([1]) is ErrorCode.NONE


@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_leader_whose_state_is_out_of_date_is_told_the_present_one(
    cluster: Any, by_hand: bool
) -> None:
    """It asks for nothing more until it hears of a newer state, and an ISR is told of by UpdateMetadata only."""
    subject = await orders(cluster)
    if by_hand:
        await cluster.sessions[2].set(PATH, LeaderAndIsr(1, (1, 3), 0, 1).encode())
        refused = await subject.ask([1])
    else:
        refused = await subject.ask([1], partition_epoch=subject.now.partition_epoch - 1)
    assert refused is ErrorCode.INVALID_UPDATE_VERSION
    await subject.controller._announcer.idle(1)
    told = [r for r in cluster.brokers[1].requests if isinstance(r, LeaderAndIsrRequest)][-1]
    (state,) = told.topic_states[0].partition_states
    assert (tuple(state.isr), state.partition_epoch) == (
        subject.now.isr,
        subject.now.partition_epoch,
    )


async def test_requests_that_wait_together_are_written_in_one_multi(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = await orders(cluster)
    await subject.controller.create_topics([NewTopic("other", assignments={0: [2, 1]})])
    session = cluster.sessions[1]
    sizes: list[int] = []
    original = session.multi

    async def noting(operations: Any) -> Any:
        sizes.append(len(operations))
        return await original(operations)

    monkeypatch.setattr(session, "multi", noting)
    second = AlterPartitionRequest(
        broker_id=2,
        broker_epoch=subject.epochs[2],
        topics=[
            AlterPartitionTopicData(
                topic_name="other",
                partitions=[AlterPartitionPartitionData(new_isr=[2], partition_epoch=0)],
            )
        ],
    )
    responses = await asyncio.gather(
        *(subject.controller.alter_partition(r) for r in (subject.asked([1]), second))
    )
    assert [r.topics[0].partitions[0].error_code for r in responses] == [0, 0]
    assert sizes == [3]


async def test_two_leaders_of_one_partition_are_not_both_heard(cluster: Any) -> None:
    subject = await orders(cluster)
    responses = await asyncio.gather(
        *(subject.controller.alter_partition(subject.asked(isr)) for isr in ([1], [1, 2, 3]))
    )
    assert [r.topics[0].partitions[0].error_code for r in responses] == [
        0,
        ErrorCode.INVALID_UPDATE_VERSION,
    ]


async def test_broker_that_is_not_the_controller_says_so(cluster: Any) -> None:
    subject = await orders(cluster)
    other = await cluster.started(2)
    response = await other.alter_partition(subject.asked([1]))
    assert response.error_code == ErrorCode.NOT_CONTROLLER
    await subject.controller.close()
    response = await subject.controller.alter_partition(
        AlterPartitionRequest(broker_id=1, broker_epoch=1)
    )
    assert response.error_code == ErrorCode.NOT_CONTROLLER


async def test_leader_that_knows_of_a_later_controller_is_not_answered_by_an_earlier_one(
    cluster: Any,
) -> None:
    """KAFKA-14154: an earlier controller said INVALID_REQUEST for ever, and the leader never asked another."""
    subject = await orders(cluster)
    for fields in ({"leader_epoch": 5}, {"partition_epoch": 7}):
        assert await subject.ask([1, 2, 3], **fields) is ErrorCode.NOT_CONTROLLER


async def test_isr_that_its_leader_wrote_itself_is_heard_of_by_its_notice(cluster: Any) -> None:
    """As brokers did before there was AlterPartition."""
    subject = await orders(cluster)
    await cluster.sessions[1].set(PATH, LeaderAndIsr(1, (1, 3), 0, 1).encode())
    notice = znodes.encode_isr_change([("orders", 0), ("gone", 5)])
    for data in (b"nonsense", notice):
        await cluster.sessions[2].create(znodes.ISR_CHANGE_PREFIX, data, sequential=True)
    await become(lambda: subject.now == LeaderAndIsr(1, (1, 3), 0, 1, 2))
    told = cluster.brokers[4].requests
    await become(lambda: list(told[-1].topic_states[0].partition_states[0].isr) == [1, 3])
    session = cluster.sessions[2]
    await eventually_true(lambda: _is_empty(session), "the notices are removed")


async def _is_empty(session: Any) -> bool:
    return not await session.children(znodes.ISR_CHANGES)


async def test_broker_that_stops_is_answered_once_others_lead(cluster: Any) -> None:
    subject = await orders(cluster)
    successor = cluster.brokers[2]
    successor.unreachable = True
    request = ControlledShutdownRequest(broker_id=1, broker_epoch=subject.epochs[1])
    asked = asyncio.ensure_future(subject.controller.controlled_shutdown(request))
    await become(lambda: subject.now.leader == 2)
    assert not asked.done()
    successor.unreachable = False
    response = await asked
    assert (response.error_code, response.remaining_partitions) == (0, [])
    assert successor.replicas[("orders", 0)] == (2, 1)
