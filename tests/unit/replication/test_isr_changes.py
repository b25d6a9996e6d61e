"""ISR changes on their way to the controller: together, in turn, until they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
)
from ottla.replication.isr_changes import IsrChanges
from ottla.wire.compiler import decode, encode_bytes
from tests.support.waiting import eventually_true
from tests.unit.log.samples import TOPIC_ID
from tests.unit.replication.leaders import EPOCH, Leader


class Controller:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.requests: list[AlterPartitionRequest] = []
        self.pending: list[asyncio.Future[AlterPartitionResponse]] = []

    async def send(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        self.requests.append(request)
        future: asyncio.Future[AlterPartitionResponse] = asyncio.get_running_loop().create_future()
        self.pending.append(future)
        return await future

    def isr_asked(self) -> list[int]:
        (topic,) = self.requests[-1].topics
        (partition,) = topic.partitions
        return [one.broker_id for one in partition.new_isr_with_epochs]

    def accept(self, isr: list[int], partition_epoch: int, *, leader_epoch: int = EPOCH) -> None:
        self.answer(isr=isr, leader_epoch=leader_epoch, partition_epoch=partition_epoch)

    def answer(self, **fields: Any) -> None:
        data = AlterPartitionResponsePartitionData(partition_index=0, leader_id=1, **fields)
        topic = AlterPartitionResponseTopicData(topic_id=TOPIC_ID, partitions=[data])
        self.pending.pop(0).set_result(AlterPartitionResponse(topics=[topic]))

    def fail(self, code: ErrorCode) -> None:
        self.pending.pop(0).set_result(AlterPartitionResponse(error_code=code))

    def hang_up(self) -> None:
        self.pending.pop(0).set_exception(KafkaError(ErrorCode.NETWORK_EXCEPTION))


async def eventually(condition: Callable[[], object]) -> None:
    async def probe() -> object:
        return condition()

    await eventually_true(probe, "what the test waits for")


async def stage(replicas: list[int], isr: list[int]) -> tuple[Leader, Controller, IsrChanges]:
    controller = Controller()
    changes = IsrChanges(controller.send, node_id=1, broker_epoch=lambda: 40, retry_s=0.001)
    leader = Leader(replicas, isr)
    leader.peers.changes = changes
    return leader, controller, changes


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_proposal_says_who_and_in_which_life_and_its_answer_is_the_isr() -> None:
    async def main() -> None:
        leader, controller, changes = await stage([1, 2], [1])
        leader.fetch(2, 0, epoch=77)
        await eventually(lambda: controller.pending)
        (request,) = controller.requests
        assert (request.broker_id, request.broker_epoch) == (1, 40)
        (topic,) = request.topics
        (asked,) = topic.partitions
        assert (topic.topic_id, topic.topic_name, asked.partition_index) == (TOPIC_ID, "orders", 0)
        assert (asked.leader_epoch, asked.partition_epoch) == (EPOCH, 0)
        assert [(one.broker_id, one.broker_epoch) for one in asked.new_isr_with_epochs] == [
            (1, 40),
            (2, 77),
        ]
        controller.accept([1, 2], 1)
        await eventually(lambda: leader.partition.isr == [1, 2])
        assert leader.partition.partition_epoch == 1
        assert len(changes) == 0
        await changes.close()

    on_a_loop(main)


def test_a_request_can_be_sent_in_every_version() -> None:
    async def main() -> None:
        leader, controller, changes = await stage([1, 2], [1])
        leader.fetch(2, 0, epoch=77)
        await eventually(lambda: controller.pending)
        for version in range(4):
            encoded = encode_bytes(controller.requests[0], version)
            read, _ = decode(AlterPartitionRequest, version, memoryview(encoded))
            (asked,) = read.topics[0].partitions
            assert (asked.new_isr or [one.broker_id for one in asked.new_isr_with_epochs]) == [1, 2]
        await changes.close()

    on_a_loop(main)


def test_what_is_proposed_in_one_turn_goes_together() -> None:
    async def main() -> None:
        leader, controller, changes = await stage([1, 2], [1])
        other = Leader([1, 2], [1])
        other.partition.index = 1
        other.peers.changes = changes
        leader.fetch(2, 0)
        other.fetch(2, 0)
        await eventually(lambda: controller.pending)
        (topic,) = controller.requests[0].topics
        assert [one.partition_index for one in topic.partitions] == [0, 1]
        await changes.close()

    on_a_loop(main)


def test_one_request_is_under_way_and_the_next_ones_wait_for_its_answer() -> None:
    async def main() -> None:
        leader, controller, changes = await stage([1, 2], [1])
        leader.fetch(2, 0)
        await eventually(lambda: controller.pending)
        leader.partition.become_leader(EPOCH + 1, 1, [1, 2], [1])
        leader.fetch(2, 0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(controller.requests) == 1
        controller.accept([1, 2], 5)  # of the epoch before
        await eventually(lambda: len(controller.requests) == 2)
        assert leader.partition.isr == [1]
        assert controller.requests[1].topics[0].partitions[0].leader_epoch == EPOCH + 1
        controller.accept([1, 2], 2, leader_epoch=EPOCH + 1)
        await eventually(lambda: leader.partition.isr == [1, 2])
        await changes.close()

    on_a_loop(main)


def test_what_is_not_answered_is_asked_again() -> None:
    async def main() -> None:
        leader, controller, changes = await stage([1, 2], [1])
        leader.fetch(2, 0)
        await eventually(lambda: controller.pending)
        controller.hang_up()
        await eventually(lambda: controller.pending)
        controller.fail(ErrorCode.NOT_CONTROLLER)
        await eventually(lambda: controller.pending)
        controller.pending.pop(0).set_result(AlterPartitionResponse())  # without the partition
        await eventually(lambda: controller.pending)
        controller.answer(error_code=ErrorCode.UNKNOWN_SERVER_ERROR)
        await eventually(lambda: controller.pending)
        assert controller.isr_asked() == [1, 2]
        controller.accept([1, 2], 1)
        await eventually(lambda: leader.partition.isr == [1, 2])
        await changes.close()

    on_a_loop(main)


def test_what_was_overtaken_is_not_asked_again() -> None:
    async def main() -> None:
        leader, controller, changes = await stage([1, 2], [1])
        leader.fetch(2, 0)
        await eventually(lambda: controller.pending)
        leader.partition.follow(2, EPOCH + 1, 1, [1, 2], [2])
        controller.hang_up()
        await eventually(lambda: len(changes) == 0)
        assert len(controller.requests) == 1
        await changes.close()

    on_a_loop(main)
