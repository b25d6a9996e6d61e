"""A broker's session that a test holds is one that a network cut off: see ZooKeeper's contract."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.clock import boottime
from ottla.coordination.embedded import Keeper
from ottla.coordination.store import ConnectionLoss, SessionExpired, SessionState, WatchEvent
from ottla.testing.sessions import BrokersConnector
from tests.support.waiting import eventually_true

SHORT_MS, LONG_MS = 50, 60_000


async def pair(opened: Any, timeout_ms: int) -> tuple[BrokersConnector, Any, Any]:
    """A broker's connector with a session of its own, and somebody else's session."""
    keeper = await Keeper.open()
    opened.things.append(keeper)
    connector = BrokersConnector(keeper, timeout_ms)
    return connector, await connector.connect(), await keeper.connect()


async def test_a_session_that_nobody_holds_lives_on(opened: Any) -> None:
    connector, session, other = await pair(opened, LONG_MS)
    await session.create("/a", b"1", ephemeral=True)
    assert (await other.get("/a")).stat.ephemeral_owner == session.session_id
    assert session.session_timeout_ms == LONG_MS
    assert boottime() < session.lives_until <= boottime() + LONG_MS / 1000
    await connector.close()
    assert await other.exists("/a") is None


async def test_a_held_session_reaches_nothing_and_says_until_when_it_lives(opened: Any) -> None:
    connector, session, other = await pair(opened, LONG_MS)
    states: list[SessionState] = []
    session.on_state(states.append)
    connector.hold()
    end = session.lives_until
    with pytest.raises(ConnectionLoss):
        await session.create("/a")
    assert await other.exists("/a") is None
    assert session.lives_until == end
    connector.release()
    await session.create("/a")
    assert states == [SessionState.SUSPENDED, SessionState.CONNECTED]


async def test_events_that_happen_while_a_session_is_held_are_told_after_it(opened: Any) -> None:
    connector, session, other = await pair(opened, LONG_MS)
    seen: list[WatchEvent] = []
    await session.exists("/a", watch=seen.append)
    connector.hold()
    await other.create("/a")
    await other.exists("/a")
    assert seen == []
    connector.release()
    await eventually_true(lambda: _truth(seen), "the event is told")


async def test_a_session_that_is_held_for_too_long_ends_and_its_owner_learns_it_last(
    opened: Any,
) -> None:
    connector, session, other = await pair(opened, SHORT_MS)
    await session.create("/a", ephemeral=True)
    connector.hold()
    end = session.lives_until

    async def gone() -> bool:
        return await other.exists("/a") is None

    await eventually_true(gone, "the znode is gone")
    assert boottime() > end, "it was taken for alive when it was dead"
    assert session.state is SessionState.SUSPENDED
    connecting = asyncio.ensure_future(connector.connect())
    connector.release()
    assert session.state is SessionState.EXPIRED
    with pytest.raises(SessionExpired):
        await session.exists("/a")
    assert (await connecting).session_id != session.session_id


async def test_a_dead_brokers_session_ends_at_its_timeout_and_no_other_begins(opened: Any) -> None:
    connector, session, other = await pair(opened, SHORT_MS)
    await session.create("/a", ephemeral=True)
    connector.die()
    assert await other.exists("/a") is not None
    with pytest.raises(ConnectionLoss):
        await connector.connect()

    async def gone() -> bool:
        return await other.exists("/a") is None

    await eventually_true(gone, "the znode is gone")


async def test_the_same_watch_set_twice_is_told_once(opened: Any) -> None:
    _, session, other = await pair(opened, LONG_MS)
    seen: list[WatchEvent] = []
    await session.exists("/a", watch=seen.append)
    await session.exists("/a", watch=seen.append)
    await other.create("/a")
    await session.exists("/b")
    await eventually_true(lambda: _truth(seen), "the event is told")
    assert len(seen) == 1


async def _truth(found: object) -> bool:
    return bool(found)
