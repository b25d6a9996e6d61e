"""What a store over a Unix socket promises beyond the contract: whose session ends when, and what nonsense does."""

from __future__ import annotations

import asyncio
import json
import random
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ottla.clock import boottime
from ottla.coordination.embedded import Keeper
from ottla.coordination.local import LocalStore, LocalStores
from ottla.coordination.local_frames import REQUEST_BYTES, Frames, MalformedFrame, frame
from ottla.coordination.local_server import StoreServer
from ottla.coordination.store import ConnectionLoss, Create, SessionExpired, SessionState, Store

LONG_MS = 60_000


class Machine:
    """A store behind its socket, and brokers."""

    def __init__(self, server: StoreServer, path: Path) -> None:
        self.server = server
        self.path = path
        self.brokers: list[LocalStores] = []

    async def connect(self, timeout_ms: int = LONG_MS) -> LocalStore:
        self.brokers.append(LocalStores(self.path, timeout_ms))
        return await self.brokers[-1].connect()

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path))


@asynccontextmanager
async def machine(directory: Path) -> AsyncIterator[Machine]:
    server = StoreServer(await Keeper.open())
    path = directory / "socket" / "store"
    await server.start(path)
    it = Machine(server, path)
    try:
        yield it
    finally:
        for broker in it.brokers:
            await broker.close()
        await server.close()
        await server.keeper.close()


async def until_gone(store: Store, path: str) -> None:
    """Return once the znode is not there any more, as a watch tells."""
    gone = asyncio.Event()
    if await store.exists(path, watch=lambda _: gone.set()) is not None:
        await gone.wait()


async def opened(it: Machine, timeout_ms: int) -> asyncio.StreamWriter:
    """A session that says nothing any more, with the znode /e."""
    reader, writer = await it.raw()
    writer.write(frame([1, "open", timeout_ms]))
    writer.write(frame([2, "create", ["create", "/e", "", True, False]]))
    for _ in range(2):
        length = int.from_bytes(await reader.readexactly(4), "big")
        assert json.loads(await reader.readexactly(length))[1] == 0
    return writer


async def test_a_session_ends_at_once_when_its_broker_lets_go_of_the_socket(
    tmp_path: Path,
) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect()
        writer = await opened(it, LONG_MS)
        assert await store.exists("/e") is not None
        writer.close()
        await until_gone(store, "/e")


async def test_a_silent_session_ends_after_its_timeout(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect()
        writer = await opened(it, 200)
        await until_gone(store, "/e")
        writer.close()


async def test_a_session_that_speaks_nonsense_lives_on_for_as_long_as_its_owner_may_believe_in_it(
    tmp_path: Path,
) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect()
        sent = boottime()
        writer = await opened(it, 500)
        writer.write(frame([3, "dance"]))
        await until_gone(store, "/e")
        assert boottime() - sent >= 0.5
        writer.close()


async def test_a_session_whose_heart_beats_outlives_its_timeout(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect(1_000)
        first = store.lives_until
        while store.lives_until < first + 1.5:
            await store.exists("/")
        assert store.state is SessionState.CONNECTED
        await store.create("/a")


async def test_lives_until_counts_from_when_an_answered_request_was_sent(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect()
        before = boottime()
        await store.exists("/")
        assert before < store.lives_until <= boottime() + LONG_MS / 1000 * 0.95
        known = store.lives_until
        unanswered = asyncio.ensure_future(store.exists("/"))
        assert store.lives_until == known
        await unanswered


async def test_out_of_touch_a_session_is_suspended_until_the_store_answers(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect()
        states: list[SessionState] = []
        store.on_state(states.append)
        waiting = asyncio.ensure_future(store.exists("/"))
        await asyncio.sleep(0)
        long_ago = boottime() - LONG_MS / 1000 / 2
        store._heard_at = long_ago
        store._calls = {n: call._replace(sent_at=long_ago) for n, call in store._calls.items()}
        store._beat()
        assert store.state is SessionState.SUSPENDED
        with pytest.raises(ConnectionLoss):
            await waiting
        assert await store.exists("/") is not None
        assert store.state is SessionState.CONNECTED
        await asyncio.sleep(0)
        assert states == [SessionState.SUSPENDED, SessionState.CONNECTED]


async def test_without_its_store_a_session_is_over_at_once_and_there_is_no_other(
    tmp_path: Path,
) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect()
        over = asyncio.Event()
        store.on_state(lambda state: over.set())
        await it.server.close()
        await over.wait()
        assert store.state is SessionState.EXPIRED
        assert store.lives_until < boottime()
        with pytest.raises(SessionExpired):
            await store.create("/a")
        with pytest.raises(ConnectionLoss):
            await it.connect()


async def test_only_this_user_gets_at_the_socket_and_its_path_may_be_long(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 40)
    directory.mkdir()
    async with machine(directory) as it:
        assert stat.S_IMODE(it.path.parent.stat().st_mode) == 0o700
        await (await it.connect()).create("/a")


async def test_many_reads_are_more_than_one_request(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        store = await it.connect()
        paths = [f"/{number}" for number in range(450)]
        await store.multi([Create(path, path.encode()) for path in paths])
        found = await store.get_many([*paths, "/none"])
        assert [one and one.data for one in found] == [*(path.encode() for path in paths), None]


NONSENSE: list[Any] = [
    [],
    ["open", 1],
    [1],
    [1, "open"],
    [1, "open", "soon"],
    [1, "open", 0],
    [1, "open", 10**18],
    [1, "get", "/", False],
    {"1": "open"},
    [True, "open", 1_000],
]
AFTER_OPENING: list[Any] = [
    [2, "open", 1_000],
    [2, ["get"], "/"],
    [2, "get", 7, False],
    [2, "get", "/", 1],
    [2, "get_many", ["/"] * 100_000],
    [2, "get_many", [None]],
    [2, "create", ["set", "/a", "", -1]],
    [2, "create", ["create", "/a", "\u2026", False, False]],
    [2, "multi", [[]]],
    [2, "multi", [["delete", "/"]]],
    [2, "multi", [["check", "/", 1.5]]],
    [2, "multi", {}],
]


@pytest.mark.parametrize("message", NONSENSE)
async def test_nonsense_ends_its_connection_and_nobody_elses(tmp_path: Path, message: Any) -> None:
    async with machine(tmp_path) as it:
        await _hung_up_on(it, frame(message))


@pytest.mark.parametrize("message", AFTER_OPENING)
async def test_nonsense_in_a_session_does_nothing_to_the_store(
    tmp_path: Path, message: Any
) -> None:
    async with machine(tmp_path) as it:
        await _hung_up_on(it, frame([1, "open", 1_000]) + frame(message))


async def test_any_bytes_end_their_connection_and_nobody_elses(tmp_path: Path) -> None:
    dice = random.Random(7)
    good = frame([1, "open", 1_000]) + frame([2, "multi", [["create", "/a", "x", False, False]]])
    async with machine(tmp_path) as it:
        await _hung_up_on(it, b"\0\0\0\x04\xff\xfe[[")
        await _hung_up_on(it, (REQUEST_BYTES + 1).to_bytes(4, "big"))
        await _hung_up_on(it, (500_000).to_bytes(4, "big") + b"[" * 500_000)
        for _ in range(50):
            data = bytearray(good)
            for _ in range(dice.randint(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            _, writer = await it.raw()
            writer.write(data)
            writer.close()
        store = await it.connect()
        assert await store.children("/") in ([], ["a"])


async def _hung_up_on(it: Machine, data: bytes) -> None:
    store = await it.connect()
    reader, writer = await it.raw()
    writer.write(data)
    try:
        while await reader.read(65_536):
            pass
    except ConnectionResetError:
        pass
    writer.close()
    assert await store.children("/") == []


def test_frames_arrive_in_any_pieces() -> None:
    dice = random.Random(3)
    messages = [[number, "x" * dice.randrange(50)] for number in range(100)]
    data = b"".join(frame(message) for message in messages)
    frames, found, position = Frames(REQUEST_BYTES), [], 0
    while position < len(data):
        size = dice.randint(1, 70)
        found += frames.feed(data[position : position + size])
        position += size
    assert found == messages


def test_a_frame_that_is_too_long_is_refused_before_it_is_there() -> None:
    with pytest.raises(MalformedFrame):
        Frames(10).feed(b"\0\0\0\x0b")
