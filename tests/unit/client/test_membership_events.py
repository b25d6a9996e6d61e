"""A member's place in its group, when answers, the application's polls and the clock come in any order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from ottla.client.consumer.assignors.assignor import MemberSubscription
from ottla.client.consumer.membership import Membership
from ottla.client.consumer.protocol import encode_assignment, encode_subscription
from ottla.client.consumer.settings import consumer_settings
from ottla.client.metadata import Metadata, PartitionMetadata, TopicMetadata
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode
from ottla.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from ottla.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from ottla.messages.sync_group import SyncGroupResponse

T0 = TopicPartition("t", 0)


class ToyLink:
    """A coordinator that answers when the test says so."""

    group = "g"
    node = object()

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()

    async def call(self, request: Any, code_of: Any, **options: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait((request, future))
        return await future

    async def answer(self, kind: type, message: Any) -> None:
        """Answer the oldest request as soon as there is one, which is of this kind; all is done about it."""
        request, future = await self.asked.get()
        assert isinstance(request, kind)
        future.set_result(message)
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Scene:
    """A member of generation 1 that leads its group and owns t-0; it has a heartbeat to send at every turn."""

    def __init__(self) -> None:
        self.link = ToyLink()
        self.cluster = SimpleNamespace(metadata=Metadata(), add_topics=lambda *names: False)
        self.grow(1)
        self.member = Membership(
            cast("Any", self.cluster),
            cast("Any", self.link),
            consumer_settings("g", assignors=["cooperative-sticky"], heartbeat_interval_ms=1),
            lambda: None,
        )

    def grow(self, partitions: int) -> None:
        """The topic has so many."""
        found = {n: PartitionMetadata(n, 1, 0, (1,), (1,)) for n in range(partitions)}
        self.cluster.metadata.topics["t"] = TopicMetadata("t", b"\0" * 16, False, found)

    async def rebalance(self) -> None:
        """A join up to its outcome, which no poll takes."""
        self.member.begin_join(["t"], [])
        member = MemberSubscription(["t"], None, [], -1, None)
        await settled()
        joined = JoinGroupResponse(
            generation_id=1,
            protocol_name="cooperative-sticky",
            leader="me",
            member_id="me",
            members=[JoinGroupResponseMember(member_id="me", metadata=encode_subscription(member))],
        )
        await self.link.answer(object, joined)
        await self.link.answer(object, SyncGroupResponse(assignment=encode_assignment([T0])))


def test_who_has_not_taken_the_outcome_of_a_rebalance_yet_is_alive() -> None:
    """Its application may work on records of the partitions that it kept; KIP-62."""

    async def play() -> None:
        scene = Scene()
        await scene.rebalance()
        await scene.link.answer(HeartbeatRequest, HeartbeatResponse())
        assert scene.member.take_joined() is not None

    asyncio.run(asyncio.wait_for(play(), 10))


def test_an_outcome_of_a_place_that_is_lost_is_not_taken() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.rebalance()
        await scene.link.answer(
            HeartbeatRequest, HeartbeatResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID)
        )
        assert scene.member.lost
        assert scene.member.take_joined() is None
        assert scene.member.rejoin_reason is not None

    asyncio.run(asyncio.wait_for(play(), 10))


def test_an_outcome_that_the_next_rebalance_has_overtaken_is_taken_before_the_next_join() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.rebalance()
        await scene.link.answer(
            HeartbeatRequest, HeartbeatResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS)
        )
        assert scene.member.rejoin_reason is not None
        assert scene.member.take_joined() is not None

    asyncio.run(asyncio.wait_for(play(), 10))


def test_partitions_that_come_while_an_outcome_waits_for_a_poll_are_shared_out_by_a_join() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.rebalance()
        scene.grow(3)
        scene.member.metadata_changed()
        assert scene.member.take_joined() is not None
        assert scene.member.rejoin_reason is not None

    asyncio.run(play())


def test_who_leaves_for_want_of_a_poll_has_lost_its_place_at_once() -> None:
    """A poll that comes meanwhile takes nothing for its own, and what it joins then is not lost with it."""

    async def play() -> None:
        scene = Scene()
        await scene.rebalance()
        assert scene.member.take_joined() is not None
        scene.member.note_life()
        scene.member.last_poll = -1e9
        request, left = await scene.link.asked.get()
        if isinstance(
            request, HeartbeatRequest
        ):  # it was sent while there was still time for a poll
            left.set_result(HeartbeatResponse())
            request, left = await scene.link.asked.get()
        assert isinstance(request, LeaveGroupRequest)
        assert scene.member.lost
        scene.member.lost = False  # the poll has seen to it
        await scene.rebalance()
        left.set_result(LeaveGroupResponse())
        await settled()
        assert not scene.member.lost
        assert scene.member.generation_id == 1
        assert scene.member.take_joined() is not None

    asyncio.run(asyncio.wait_for(play(), 10))


def test_a_heartbeat_that_is_refused_for_once_costs_no_place() -> None:
    """Kafka's member tells its application and goes on with heartbeats, too."""

    async def play() -> None:
        scene = Scene()
        await scene.rebalance()
        assert scene.member.take_joined() is not None
        await scene.link.answer(
            HeartbeatRequest, HeartbeatResponse(error_code=ErrorCode.GROUP_AUTHORIZATION_FAILED)
        )
        assert scene.member.failure is not None
        await scene.link.answer(HeartbeatRequest, HeartbeatResponse())

    asyncio.run(asyncio.wait_for(play(), 5))
