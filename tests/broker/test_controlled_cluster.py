"""Brokers that lead and follow as their controller says: failover, reassignment and elections with records in them.

All brokers are in this process, on one store; they reach each other through their listeners.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ottla.broker.broker import Broker as Server
from ottla.client.producer.producer import AsyncProducer
from ottla.controller.controller import Controller
from ottla.controller.topics import NewTopic
from ottla.coordination.embedded import EmbeddedStore, Keeper
from ottla.coordination.znodes import LeaderAndIsr
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.messages.elect_leaders import ElectLeadersRequest
from ottla.settings.broker_config import BrokerConfig
from tests.support.segment_files import without_room
from tests.support.waiting import eventually_true


class Brokers:
    """Brokers 1 to ``count`` and the store that they share."""

    def __init__(self, data: Path, keeper: Keeper) -> None:
        self.data = data
        self.keeper = keeper
        self.running: dict[int, Server] = {}

    async def start(self, node_id: int) -> None:
        config = BrokerConfig.of(
            {
                "listeners": "PLAINTEXT://127.0.0.1:0",
                "log.dirs": str(self.data / str(node_id)),
                "durability": "os",
                "node.id": node_id,
                "min.insync.replicas": 2,
                "replica.lag.time.max.ms": 10_000,
                "controlled.shutdown.retry.backoff.ms": 10,
            }
        )
        broker = self.running[node_id] = Server(config, connector=self.keeper)
        await broker.start()

    async def stop(self, node_id: int) -> None:
        await self.running.pop(node_id).stop()

    async def expire(self, node_id: int) -> None:
        """The broker's session ends, though it runs on."""
        store = self.running[node_id].session.store
        assert isinstance(store, EmbeddedStore)
        await self.keeper.expire(store.session_id)

    @property
    def bootstrap(self) -> list[str]:
        return ["{}:{}".format(*broker.address) for broker in self.running.values()]

    @property
    def controller(self) -> Controller | None:
        active = [b.controller for b in self.running.values() if b.controller.is_active]
        return active[0] if active else None

    def state(self, topic: str) -> LeaderAndIsr | None:
        """Partition 0 as the controller has it."""
        controller = self.controller
        state = controller.state if controller is not None else None
        found = state.topics.get(topic) if state is not None else None
        return found.partitions.get(0) if found is not None else None

    async def becomes(self, topic: str, leader: int, isr: set[int]) -> None:
        """The partition is led so, and every broker sends its clients there."""

        async def is_so() -> bool:
            state = self.state(topic)
            return (
                state is not None
                and (state.leader, set(state.isr)) == (leader, isr)
                and all(
                    topic in broker.metadata.topics
                    and broker.metadata.topics[topic].partitions[0].leader == leader
                    for broker in self.running.values()
                )
            )

        try:
            await eventually_true(is_so, f"{leader} leads {topic}, in sync {isr}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.state(topic)}") from error

    async def same_records(self, topic: str, replicas: set[int], count: int) -> None:
        """All replicas have all records, and the same bytes."""

        def logs() -> list[tuple[int, bytes]]:
            found = []
            for node_id in sorted(replicas):
                partition = self.running[node_id].replicas.get(topic, 0)
                if partition is not None:
                    paths = sorted((self.data / str(node_id) / f"{topic}-0").glob("*.log"))
                    end = partition.log.log_end_offset
                    found.append((end, b"".join(without_room(path.read_bytes()) for path in paths)))
            return found

        async def are_same() -> bool:
            found = logs()
            return len(found) == len(replicas) and len(set(found)) == 1 and found[0][0] == count

        await eventually_true(are_same, f"{count} records on {replicas}")


def run_with(data: Path, count: int, test: Callable[[Brokers], Awaitable[None]]) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        brokers = Brokers(data, keeper)
        try:
            for node_id in range(1, count + 1):
                await brokers.start(node_id)
            await test(brokers)
        finally:
            for node_id in list(brokers.running):
                await brokers.stop(node_id)
            await keeper.close()

    asyncio.run(run())


async def make(brokers: Brokers, topic: str, *replicas: int) -> None:
    controller = brokers.controller
    assert controller is not None
    (result,) = await controller.create_topics([NewTopic(topic, assignments={0: replicas})])
    assert not result.error


async def produce(brokers: Brokers, topic: str, first: int, count: int) -> None:
    async with AsyncProducer(brokers.bootstrap, acks="all") as producer:
        for number in range(first, first + count):
            metadata = await producer.send_and_wait(topic, b"record %d" % number)
            assert metadata.offset == number


def test_every_broker_may_go_and_come_back_and_no_record_is_lost(tmp_path: Path) -> None:
    async def roll(brokers: Brokers) -> None:
        await make(brokers, "orders", 1, 2, 3)
        await brokers.becomes("orders", 1, {1, 2, 3})
        await produce(brokers, "orders", 0, 10)
        # The controller, which leads too: it lets itself go, and another takes office.
        await brokers.stop(1)
        await brokers.becomes("orders", 2, {2, 3})
        await produce(brokers, "orders", 10, 10)
        await brokers.start(1)
        await brokers.becomes("orders", 2, {1, 2, 3})
        # A session ends, and the broker does not know it yet.
        await brokers.expire(2)
        await brokers.becomes("orders", 1, {1, 2, 3})
        await produce(brokers, "orders", 20, 10)
        await brokers.same_records("orders", {1, 2, 3}, 30)

    run_with(tmp_path, 3, roll)


def test_partition_moves_with_its_records_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def move(brokers: Brokers) -> None:
        await make(brokers, "orders", 1, 2)
        await produce(brokers, "orders", 0, 20)
        controller = brokers.controller
        assert controller is not None
        wanted = ReassignablePartition(partition_index=0, replicas=[3, 4])
        answer = await controller.alter_partition_reassignments(
            AlterPartitionReassignmentsRequest(
                topics=[ReassignableTopic(name="orders", partitions=[wanted])]
            )
        )
        assert [p.error_code for t in answer.responses for p in t.partitions] == [0]
        await brokers.becomes("orders", 3, {3, 4})
        await brokers.same_records("orders", {3, 4}, 20)
        await produce(brokers, "orders", 20, 5)
        await brokers.same_records("orders", {3, 4}, 25)

        async def is_gone() -> bool:
            left = [brokers.running[node_id].replicas.get("orders", 0) for node_id in (1, 2)]
            return left == [None, None]

        await eventually_true(is_gone, "the old replicas are deleted")

    run_with(tmp_path, 4, move)


def test_leadership_goes_back_to_the_preferred_replica_when_that_is_asked_for(
    tmp_path: Path,
) -> None:
    async def elect(brokers: Brokers) -> None:
        await make(brokers, "orders", 2, 3, 1)
        await produce(brokers, "orders", 0, 5)
        await brokers.stop(2)
        await brokers.becomes("orders", 3, {1, 3})
        await brokers.start(2)
        await brokers.becomes("orders", 3, {1, 2, 3})
        controller = brokers.controller
        assert controller is not None
        answer = await controller.elect_leaders(ElectLeadersRequest(topic_partitions=None))
        assert [
            (topic.topic, result.error_code)
            for topic in answer.replica_election_results
            for result in topic.partition_result
        ] == [("orders", 0)]
        await brokers.becomes("orders", 2, {1, 2, 3})
        await produce(brokers, "orders", 5, 5)

    run_with(tmp_path, 3, elect)


def test_topic_is_deleted_from_a_broker_that_was_away_when_it_went(tmp_path: Path) -> None:
    async def delete(brokers: Brokers) -> None:
        await make(brokers, "orders", 2, 3)
        await produce(brokers, "orders", 0, 5)
        await brokers.stop(3)
        controller = brokers.controller
        assert controller is not None
        await controller.delete_topics(["orders"])
        assert (tmp_path / "3" / "orders-0").exists()
        await brokers.start(3)

        async def is_gone() -> bool:
            state = controller.state
            return state is not None and "orders" not in state.topics

        await eventually_true(is_gone, "the deletion goes on")
        assert brokers.running[3].replicas.get("orders", 0) is None

    run_with(tmp_path, 3, delete)


@pytest.mark.parametrize("victim", [1, 2])
def test_topic_is_made_while_a_broker_is_away_and_complete_when_it_is_back(
    tmp_path: Path, victim: int
) -> None:
    async def create(brokers: Brokers) -> None:
        await make(brokers, "before", 1, 2, 3)
        await brokers.becomes("before", 1, {1, 2, 3})
        await brokers.stop(victim)
        others = [node_id for node_id in (1, 2, 3) if node_id != victim]
        await brokers.becomes("before", others[0], set(others))
        await make(brokers, "after", *others)
        await produce(brokers, "after", 0, 3)
        await brokers.start(victim)
        await brokers.becomes("before", others[0], {1, 2, 3})
        await brokers.becomes("after", others[0], set(others))

    run_with(tmp_path, 3, create)
