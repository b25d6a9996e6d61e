"""A broker of a cluster in one process is cut off from the store as one that ZooKeeper can't hear."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ottla.clock import boottime
from ottla.coordination.embedded import IN_MEMORY, Keeper, TimedSessions
from ottla.coordination.store import (
    ConnectionLoss,
    EventType,
    SessionExpired,
    SessionState,
    WatchEvent,
)

TIMEOUT_MS = 300


@pytest.fixture(params=["memory", "sqlite"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return IN_MEMORY if request.param == "memory" else str(tmp_path / "store.sqlite")


@asynccontextmanager
async def two_brokers(path: str) -> AsyncIterator[tuple[TimedSessions, Any, Any]]:
    """One that may be cut off, its store, and the store of another."""
    keeper = await Keeper.open(path)
    try:
        mine = TimedSessions(keeper, TIMEOUT_MS)
        yield mine, await mine.connect(), await keeper.connect()
    finally:
        await keeper.close()


async def reached(store: Any, state: SessionState) -> None:
    while store.state is not state:  # noqa: ASYNC110 - the condition is the subject
        await asyncio.sleep(0.001)


def test_a_session_without_a_timeout_lives_for_ever() -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        store = await keeper.connect()
        assert store.session_timeout_ms is None
        assert store.lives_until == math.inf
        await keeper.close()

    asyncio.run(run())


async def test_a_held_session_is_suspended_and_then_gone_as_others_see_before_its_owner(
    path: str,
) -> None:
    async with two_brokers(path) as (sessions, mine, other):
        states: list[SessionState] = []
        mine.on_state(states.append)
        await mine.create("/e", ephemeral=True)
        assert mine.session_timeout_ms == TIMEOUT_MS
        gone = asyncio.Event()
        await other.exists("/e", watch=lambda event: gone.set())
        assert mine.lives_until > boottime()
        sessions.hold()
        end = mine.lives_until
        await reached(mine, SessionState.SUSPENDED)
        assert await other.exists("/e") is not None
        await gone.wait()
        assert boottime() >= end == mine.lives_until
        assert await other.exists("/e") is None
        assert mine.state is SessionState.SUSPENDED  # nobody can tell it
        sessions.release()
        assert mine.state is SessionState.EXPIRED
        await asyncio.sleep(0)
        assert states == [SessionState.SUSPENDED, SessionState.EXPIRED]
        with pytest.raises(SessionExpired):
            await mine.get("/")
        assert (await sessions.connect()).session_id != mine.session_id


async def test_a_session_that_is_released_in_time_goes_on_and_hears_what_it_missed(
    path: str,
) -> None:
    async with two_brokers(path) as (sessions, mine, other):
        keeper = sessions.keeper
        seen: list[object] = []
        await mine.create("/e", ephemeral=True)
        await other.create("/a", b"0")
        await mine.get("/a", watch=seen.append)
        gone = asyncio.Event()
        third = await keeper.connect(session_timeout_ms=TIMEOUT_MS)
        await third.create("/third", ephemeral=True)
        await other.exists("/third", watch=lambda event: gone.set())
        sessions.hold()
        keeper.hold(third.session_id)
        end = mine.lives_until
        await other.set("/a", b"1")
        await reached(mine, SessionState.SUSPENDED)
        late = asyncio.create_task(mine.get("/a"))
        await asyncio.sleep(0)
        assert seen == []
        assert not late.done()
        sessions.release()
        assert (await late).data == b"1"
        assert seen == [WatchEvent(EventType.DATA_CHANGED, "/a")]
        assert mine.state is SessionState.CONNECTED
        assert await other.exists("/e") is not None
        assert mine.lives_until > end
        await gone.wait()  # of one that was cut off with it, and later
        assert await other.exists("/e") is not None


async def test_what_was_under_way_is_lost_and_may_have_been_done(path: str) -> None:
    async with two_brokers(path) as (sessions, mine, other):
        asked = asyncio.create_task(mine.create("/done"))
        await asyncio.sleep(0)  # it is on its way
        sessions.hold()
        never = asyncio.create_task(mine.create("/never"))
        for call in (asked, never):
            with pytest.raises(ConnectionLoss):
                await call
        assert mine.state is SessionState.SUSPENDED
        assert await other.exists("/done") is not None
        assert await other.exists("/never") is None


async def test_nobody_connects_while_cut_off_and_a_call_does_not_wait_for_ever(path: str) -> None:
    async with two_brokers(path) as (sessions, mine, _):
        sessions.hold()
        await reached(mine, SessionState.SUSPENDED)
        with pytest.raises(ConnectionLoss):
            await mine.get("/")
        with pytest.raises(ConnectionLoss):
            await sessions.connect()
        await mine.close()
        sessions.release()
        await (await sessions.connect()).get("/")


async def test_a_held_session_can_be_expired_and_its_keeper_closed(path: str) -> None:
    async with two_brokers(path) as (sessions, mine, other):
        await mine.create("/e", ephemeral=True)
        sessions.hold()
        await sessions.expire()
        assert await other.exists("/e") is None
        assert mine.state is SessionState.EXPIRED
        sessions.release()
        second = await sessions.connect()
        sessions.hold()
    assert second.state is SessionState.EXPIRED
