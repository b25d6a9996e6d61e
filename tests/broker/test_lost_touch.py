"""A broker out of touch with the store: what it still answers, what not, and how it comes back (INVARIANTS 11, 29)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ottla.broker.broker import Broker as Server
from ottla.controller.topics import NewTopic
from ottla.coordination.embedded import Keeper, TimedSessions
from ottla.coordination.store import SessionState
from ottla.errors import ErrorCode
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.network.channel import Channel
from ottla.settings.broker_config import BrokerConfig
from tests.broker.test_several_brokers import DEADLINE_S, until
from tests.unit.log.samples import batch

TIMEOUT_MS = 1_500


class Member:
    """A broker and its way to the store."""

    def __init__(self, keeper: Keeper, data: Path, node_id: int) -> None:
        self.sessions = TimedSessions(keeper, TIMEOUT_MS)
        config = {
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "log.dirs": str(data / str(node_id)),
            "durability": "os",
            "node.id": node_id,
            "controlled.shutdown.enable": "false",
        }
        self.server = Server(BrokerConfig.of(config), connector=self.sessions)

    async def produce(self, *, acks: int = -1) -> int:
        """The error code of one Produce."""
        data = PartitionProduceData(index=0, records=memoryview(batch(1)))
        topic = TopicProduceData(name="orders", partition_data=[data])
        answer = await self.ask(ProduceRequest(acks=acks, timeout_ms=20_000, topic_data=[topic]), 9)
        return int(answer.responses[0].partition_responses[0].error_code)

    async def fetched(self) -> tuple[int, int]:
        """The error code and the size of what a consumer gets from the beginning."""
        wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=100,
            min_bytes=1,
            topics=[FetchTopic(topic="orders", partitions=[wanted])],
        )
        (partition,) = (await self.ask(request, 11)).responses[0].partitions
        return int(partition.error_code), len(partition.records or b"")

    async def ask(self, request: Any, version: int) -> Any:
        channel = await Channel.connect(*self.server.address)
        try:
            return await channel.send(request, version=version)
        finally:
            channel.abort("done")

    @property
    def leads(self) -> bool:
        partition = self.server.replicas.get("orders", 0)
        return partition is not None and partition.is_leader


def play(data: Path, act: Callable[[Member, Member], Awaitable[None]]) -> None:
    """``act`` with broker 1, which leads orders-0 with 2 in its ISR, and broker 2, the controller."""

    async def run() -> None:
        keeper = await Keeper.open()
        second, first = (Member(keeper, data, node_id) for node_id in (2, 1))
        try:
            await second.server.start()
            await first.server.start()
            assert second.server.controller.is_active
            topic = NewTopic("orders", assignments={0: [1, 2]})
            await second.server.controller.create_topics([topic])
            await until(lambda: first.leads, "it is led")
            assert await first.produce() == 0
            await act(first, second)
        finally:
            first.sessions.release()
            for member in (first, second):
                await member.server.stop()
            await keeper.close()

    asyncio.run(run())


def test_a_leader_out_of_touch_stops_acknowledging_before_another_one_leads(
    tmp_path: Path,
) -> None:
    async def act(first: Member, second: Member) -> None:
        partition = first.server.replicas.leader_of("orders", 0)
        first.sessions.hold()
        answers = []
        while not second.leads:
            answers.append(await first.produce())
        assert answers[0] == 0  # for a while it has nothing to fear
        assert answers[-1] == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert first.server.lease.is_over()
        assert await first.produce(acks=1) == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert partition.is_leader, "nobody has told it yet"
        code, size = await first.fetched()
        assert (code, size > 0) == (0, True)
        first.sessions.release()
        await until(lambda: partition.leader_id == 2, "it follows")
        assert not first.server.lease.is_over()
        assert await second.produce() == 0

    play(tmp_path, act)


def test_who_waits_for_commitment_is_told_when_the_lease_ends(tmp_path: Path) -> None:
    async def act(first: Member, second: Member) -> None:
        fetchers = second.server.replicas.fetchers
        assert fetchers is not None
        await fetchers.close()
        waiting = asyncio.create_task(first.produce())
        await until(
            lambda: first.server.replicas.leader_of("orders", 0).log.log_end_offset == 2,
            "it is appended",
        )
        first.sessions.hold()
        async with asyncio.timeout(DEADLINE_S):
            assert await waiting == ErrorCode.NOT_LEADER_OR_FOLLOWER

    play(tmp_path, act)


def test_a_session_that_lives_on_costs_no_leadership(tmp_path: Path) -> None:
    async def act(first: Member, second: Member) -> None:
        epoch, store = first.server.broker_epoch, first.server.session.store
        first.sessions.hold()
        await until(lambda: store.state is SessionState.SUSPENDED, "it notices")
        assert await first.produce() == 0
        first.sessions.release()
        await until(lambda: store.state is SessionState.CONNECTED, "it is in touch again")
        assert await first.produce() == 0
        assert (first.server.broker_epoch, first.leads) == (epoch, True)

    play(tmp_path, act)


def test_a_controller_out_of_touch_gives_its_office_up(tmp_path: Path) -> None:
    async def act(first: Member, second: Member) -> None:
        before = second.server.controller
        second.sessions.hold()
        await until(lambda: first.server.controller.is_active, "the other one takes office")
        second.sessions.release()
        await until(lambda: second.server.controller is not before, "it has another session")
        assert not before.is_active
        await until(lambda: len(first.server.metadata.brokers) == 2, "both are there")
        assert await first.produce() == 0

    play(tmp_path, act)
