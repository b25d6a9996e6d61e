"""What a consumer makes of the application's wishes and of news, whatever came first; no broker is there."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ottla.client.consumer.commits import CommittedOffsets, Identity
from ottla.client.consumer.core import ConsumerCore
from ottla.client.consumer.fetched import Chunk
from ottla.client.consumer.membership import Joined
from ottla.client.consumer.positions import EARLIEST_TIMESTAMP, LeaderAndEpoch, Phase
from ottla.client.consumer.settings import consumer_settings
from ottla.client.consumer.subscription import Listeners
from ottla.client.errors import CommitFailed
from ottla.client.metadata import PartitionMetadata, TopicMetadata
from ottla.client.record import Record
from ottla.client.types import OffsetAndMetadata, TopicPartition
from tests.unit.client.test_failover import SETTINGS

T0, T1, T2 = (TopicPartition("t", number) for number in range(3))


def records_at(*offsets: int) -> list[Record]:
    return [Record(*T0, offset, 0, None, b"v", []) for offset in offsets]


def core_that_iterates(phase: Phase) -> ConsumerCore:
    """The application has the first of three records in its hands; the others have been fetched."""
    core = ConsumerCore(SETTINGS, consumer_settings(None))
    core.positions.assign([T0])
    state = core.positions.get(T0)
    state.leader = LeaderAndEpoch(1, 3)
    state.seek(5, 3)
    core.cursor.load([Chunk(state, state.version, records_at(5, 6, 7), 8, 3)])
    state.fetch_offset = 8
    core.cursor.next_record()
    state.phase = phase
    return core


def test_a_pause_leaves_what_was_sought_to_be_found() -> None:
    async def play() -> None:
        core = core_that_iterates(Phase.FETCH)
        state = core.positions.get(T0)
        state.request_reset(EARLIEST_TIMESTAMP)
        core.pause([T0])
        assert state.phase is Phase.RESET
        state.seek(2)
        core.pause([T0])
        assert (state.phase, state.position) == (Phase.FETCH, 2)

    asyncio.run(play())


def test_a_pause_takes_no_doubt_away() -> None:
    """A newer leader is being asked whether it has what was read."""

    async def play() -> None:
        core = core_that_iterates(Phase.VALIDATE)
        state = core.positions.get(T0)
        core.pause([T0])
        assert (state.phase, state.fetch_offset, state.fetch_epoch) == (Phase.VALIDATE, 6, 3)

    asyncio.run(play())


def test_a_poll_that_waits_joins_the_group_once_a_topic_matches_the_pattern() -> None:
    async def play() -> None:
        core = ConsumerCore(SETTINGS, consumer_settings("g"))
        assert core.membership is not None
        joins: list[list[str]] = []
        membership = core.membership

        def join(topics: list[str], owned: list[TopicPartition]) -> None:
            membership.rejoin_reason = None
            joins.append(topics)

        membership.begin_join = join  # type: ignore[method-assign]
        core.subscription.set_pattern("t.*", Listeners())
        poll = asyncio.ensure_future(core.poll(None, 10))
        for _ in range(10):
            await asyncio.sleep(0)
        partition = PartitionMetadata(0, 1, 0, (1,), (1,))
        core.cluster.metadata.topics["t"] = TopicMetadata("t", b"\0" * 16, False, {0: partition})
        core._metadata_changed()
        for _ in range(10):
            await asyncio.sleep(0)
        poll.cancel()
        assert joins == [["t"]]

    asyncio.run(play())


def test_an_outcome_that_was_not_taken_before_an_unsubscribe_is_never_taken() -> None:
    """It is that of a membership which has ended: others own those partitions."""

    async def play() -> None:
        core = ConsumerCore(SETTINGS, consumer_settings("g", assignors=["cooperative-sticky"]))
        core._started = True  # nobody is asked for metadata
        membership = core.membership
        assert membership is not None
        fails = [ZeroDivisionError()]

        def fail_once(partitions: list[TopicPartition]) -> None:
            if fails:
                raise fails.pop()

        core.subscription.set_topics(["t"], Listeners(on_revoked=fail_once))
        core.positions.assign([T0, T1])
        membership.rejoin_reason = None
        membership._generation_id = 1
        outcomes = [Joined(1, cast("Any", None), [T1, T2])]
        membership.take_joined = (  # type: ignore[method-assign]
            lambda: outcomes.pop() if outcomes else None
        )
        with pytest.raises(ZeroDivisionError):
            await core.attend()
        await core.unsubscribe()
        owned: list[list[TopicPartition]] = []
        membership.begin_join = lambda topics, own: owned.append(own)  # type: ignore[method-assign]
        await core.subscribe(["t"], None, Listeners())
        await core.attend()
        assert owned == [[]]

    asyncio.run(play())


class HeldCommits:
    """A coordinator that keeps commits waiting, in place of a consumer's way to it."""

    def __init__(self, core: ConsumerCore) -> None:
        self.generations: list[int] = []
        self.goes_on = asyncio.Event()
        core.committed_offsets = cast("CommittedOffsets", self)

    async def commit(self, offsets: Any, identity: Identity, *, timeout_ms: float) -> None:
        self.generations.append(identity.generation_id)
        await self.goes_on.wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def core_of_generation(number: int) -> tuple[ConsumerCore, HeldCommits]:
    core = ConsumerCore(SETTINGS, consumer_settings("g"))
    core._started = True  # nobody is asked for metadata
    core.subscription.set_topics(["t"], Listeners())
    assert core.membership is not None
    core.membership._generation_id = number
    return core, HeldCommits(core)


def test_a_commit_is_one_of_the_generation_in_which_it_was_asked_for() -> None:
    """Others may own by the next what is committed; the group is to refuse it."""

    async def play() -> None:
        core, held = core_of_generation(1)
        core.commit_later({T0: OffsetAndMetadata(1)}, None)
        core.commit_later({T0: OffsetAndMetadata(2)}, None)
        third = asyncio.ensure_future(core.commit({T0: OffsetAndMetadata(3)}, 1000))
        await settled()
        assert core.membership is not None
        core.membership._generation_id = 2
        held.goes_on.set()
        await third
        assert held.generations == [1, 1, 1]

    asyncio.run(play())


def test_who_has_no_place_in_the_group_commits_nothing() -> None:
    """The group would take it for an offset of nobody's while it is empty, though others had read on."""

    async def play() -> None:
        core, held = core_of_generation(-1)
        held.goes_on.set()
        with pytest.raises(CommitFailed):
            await core.commit({T0: OffsetAndMetadata(1)}, 1000)
        told: list[Any] = []
        core.commit_later({T0: OffsetAndMetadata(1)}, lambda offsets, error: told.append(error))
        await settled()
        assert [type(error) for error in told] == [CommitFailed]
        assert held.generations == []
        await core.commit({}, 1000)  # as before the first poll, with nothing handed out

    asyncio.run(play())


def test_a_commit_during_a_rebalance_fails_at_once() -> None:
    """It would wait behind the join on its connection, until it is one of a generation that has gone."""

    async def play() -> None:
        core, held = core_of_generation(1)
        held.goes_on.set()
        membership = core.membership
        assert membership is not None
        answered = asyncio.Event()
        join = asyncio.ensure_future(answered.wait())
        membership._task = cast("asyncio.Task[Joined]", join)
        with pytest.raises(CommitFailed, match="REBALANCE_IN_PROGRESS"):
            await core.commit({T0: OffsetAndMetadata(1)}, 1000)
        assert held.generations == []
        answered.set()
        await join
        await core.commit({T0: OffsetAndMetadata(1)}, 1000)
        assert held.generations == [1]

    asyncio.run(play())


@pytest.mark.parametrize(("generation", "told"), [(1, "revoked"), (-1, "lost")])
def test_who_unsubscribes_hears_whether_the_partitions_were_still_its_own(
    generation: int, told: str
) -> None:
    async def play() -> None:
        core, held = core_of_generation(generation)
        held.goes_on.set()
        heard: list[str] = []
        core.subscription.set_topics(
            ["t"],
            Listeners(
                on_revoked=lambda partitions: heard.append("revoked"),
                on_lost=lambda partitions: heard.append("lost"),
            ),
        )
        core.positions.assign([T0])
        await core.unsubscribe()
        assert heard == [told]
        assert not core.positions.partitions

    asyncio.run(play())
