"""What a socket leaves of an answer is told to the byte, and the thread that sends lets go when it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ottla.network.sending import (
    JOIN_BYTES_MAX,
    PIECE_BYTES_MAX,
    Helper,
    Job,
    close_regions,
    give,
    region_memory,
)

MOST = 4 * PIECE_BYTES_MAX


class Socket:
    """Takes so many bytes, in writes of at most ``at_once``."""

    def __init__(self, room: int, at_once: int = 1 << 30) -> None:
        self.taken = b""
        self.room = room
        self.at_once = at_once

    def write(self, descriptor: int, pieces: Sequence[Any]) -> int:
        joined = b"".join(pieces)[: min(self.at_once, self.room - len(self.taken))]
        if not joined:
            raise BlockingIOError
        self.taken += joined
        return len(joined)


def left_of(chunks: list[Any], left: bytes, index: int, offset: int) -> bytes:
    """All that is still to be written."""
    rest = b"".join(
        bytes(chunk) if isinstance(chunk, bytes) else chunk.read() for chunk in chunks[index:]
    )
    return left + rest[offset:]


def chunks_of(kit: Any, file: Path) -> list[Any]:
    return [
        kit.Region(file, 3, 200_000),
        b"between",
        kit.Region(file, 7, 500),
        kit.Region(file, 11, PIECE_BYTES_MAX + 5),
        b"x" * (JOIN_BYTES_MAX + 1),
        kit.Region(file, 1, 100_000),
        b"tags",
    ]


@pytest.mark.parametrize("at_once", [1 << 30, 70_000])
def test_wherever_a_socket_is_full_the_rest_is_what_is_missing(
    kit: Any, record_file: Path, at_once: int
) -> None:
    chunks = chunks_of(kit, record_file)
    whole = left_of(chunks, b"head", 0, 0)
    first = len(b"head") + 200_000
    edges = [0, 3, 4, 5, first, first + 3, first + 507, first + 508, len(whole) - 2, len(whole)]
    for room in [*edges, *((low + high) // 2 for low, high in pairwise(edges))]:
        socket = Socket(room, at_once)
        given = give(socket.write, 0, b"head", chunks, region_memory(), MOST)
        assert socket.taken + left_of(chunks, *given) == whole
    close_regions(chunks)


def test_a_turn_s_worth_goes_at_once_and_no_more(kit: Any, record_file: Path) -> None:
    regions = [kit.Region(record_file, 0, PIECE_BYTES_MAX) for _ in range(6)]
    socket = Socket(1 << 30)
    given = give(socket.write, 0, b"", regions, region_memory(), MOST)
    assert given == (b"", 4, 0)
    close_regions(regions)


def test_what_the_page_cache_has_not_is_left(kit: Any, record_file: Path) -> None:
    chunks = [kit.Region(record_file, 0, 100_000, resident=False), b"tail"]
    socket = Socket(1 << 30)
    assert give(socket.write, 0, b"head", chunks, region_memory(), MOST) == (b"head", 0, 0)
    assert socket.taken == b""
    close_regions(chunks)


class Held:
    """A region whose reading waits."""

    def __init__(self) -> None:
        self.is_read = threading.Event()
        self.go_on = threading.Event()
        self.closed = False

    def __len__(self) -> int:
        return 100_000

    def read_resident(self, offset: int, buffer: memoryview) -> int:
        self.is_read.set()
        assert self.go_on.wait(30)
        return len(buffer)

    def close(self) -> None:
        self.closed = True


def offered(
    helper: Helper, who: int, chunks: list[Any], notify: Callable[[], None] = print
) -> tuple[Job, Socket, bool]:
    """An answer of that connection, and whether the thread does it."""
    socket = Socket(1 << 30)
    job = Job(socket.write, 0, b"head", chunks, MOST, notify)
    return job, socket, helper.offer(who, job)


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.network.sending.processors", lambda: 2)


@pytest.mark.usefixtures("two_processors")
def test_the_thread_gets_one_answer_at_a_time_and_only_when_several_read_in_turn(kit: Any) -> None:
    async def main() -> None:
        helper = Helper(asyncio.get_running_loop())
        assert not offered(helper, 1, [Held()])[2]  # it is the first
        assert not offered(helper, 1, [Held()])[2]  # and alone
        held = Held()
        job, socket, taken = offered(helper, 2, [held])
        assert taken
        assert not offered(helper, 1, [Held()])[2]  # the thread has one
        held.go_on.set()
        await kit.until(lambda: job.is_over)
        assert job.is_done
        assert held.closed
        assert len(socket.taken) == 100_004
        helper.close()

    kit.run(main())


@pytest.mark.usefixtures("two_processors")
def test_a_connection_waits_for_a_write_that_is_under_way_before_its_socket_is_closed(
    kit: Any,
) -> None:
    """The descriptor's number may be another connection's in the next moment."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        helper = Helper(loop)
        offered(helper, 1, [])
        held = Held()
        job, socket, taken = offered(helper, 2, [held])
        assert taken
        await kit.until(held.is_read.is_set)
        withdrawn = loop.run_in_executor(None, job.withdraw)
        done, _ = await asyncio.wait([withdrawn], timeout=0.05)
        assert not done
        held.go_on.set()
        await withdrawn
        assert job.is_over
        assert len(socket.taken) == 100_004
        helper.close()

    kit.run(main())


@pytest.mark.usefixtures("two_processors")
def test_what_is_withdrawn_before_it_was_begun_is_never_written(kit: Any) -> None:
    async def main() -> None:
        helper = Helper(asyncio.get_running_loop())
        socket = Socket(1 << 30)
        job = Job(socket.write, 0, b"head", [Held()], MOST, print)
        job._helper = helper
        job.withdraw()
        job.run(region_memory())
        assert job.is_over
        assert socket.taken == b""

    kit.run(main())


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("waits", [True, False])
def test_who_waits_for_the_end_is_told_and_nobody_else(kit: Any, waits: bool) -> None:
    async def main() -> None:
        helper = Helper(asyncio.get_running_loop())
        offered(helper, 1, [])
        held = Held()
        notified: list[int] = []
        job, _, taken = offered(helper, 2, [held], lambda: notified.append(1))
        assert taken
        job.is_wanted = waits
        held.go_on.set()
        await kit.until(lambda: job.is_over)
        helper.close()
        await asyncio.sleep(0)
        assert bool(notified) == waits

    kit.run(main())


class Unclosable(Held):
    """A region whose closing fails."""

    def close(self) -> None:
        raise OSError("no such descriptor")


@pytest.mark.usefixtures("two_processors")
def test_a_region_that_cannot_be_closed_is_told_though_all_is_out(kit: Any) -> None:
    """Nobody was told, and the connection waited for ever."""

    async def main() -> None:
        helper = Helper(asyncio.get_running_loop())
        offered(helper, 1, [])
        held = Unclosable()
        held.go_on.set()
        notified: list[int] = []
        job, socket, taken = offered(helper, 2, [held], lambda: notified.append(1))
        assert taken
        await kit.until(lambda: job.is_over)
        helper.close()
        await asyncio.sleep(0)
        assert len(socket.taken) == 100_004
        assert isinstance(job.error, OSError)
        assert notified

    kit.run(main())


@pytest.mark.usefixtures("two_processors")
def test_a_connection_whose_region_cannot_be_closed_is_cut_off(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Helper, "_is_another", lambda helper, who: True)

    async def main() -> None:
        async with kit.stage() as on:
            held = Unclosable()
            held.go_on.set()
            on.broker.answers[1] = lambda request: kit.fetched(held)
            peer = await on.peer()
            peer.send(kit.fetch(), 4, 1)
            peer.send(kit.fetch(), 4, 2)
            assert len(await peer.hung_up()) > 100_000
            await kit.until(lambda: not on.server.connections)

    kit.run(main())


def refuse(*_: Any) -> Any:
    raise RuntimeError("can't start new thread")


def lack(*_: Any) -> Any:
    raise OSError("out of memory")


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize(
    ("what", "fails"),
    [("ottla.network.sending.Thread.start", refuse), ("ottla.network.sending.region_memory", lack)],
)
def test_where_no_thread_can_be_had_the_loop_sends(
    kit: Any,
    record_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    fails: Callable[..., Any],
) -> None:
    """It is asked for once: the system has been told by then what it lacks."""
    asked: list[int] = []
    monkeypatch.setattr(Helper, "_is_another", lambda helper, who: True)

    def failing(*arguments: Any) -> Any:
        asked.append(1)
        return fails(*arguments)

    async def main() -> None:
        async with kit.stage() as on:
            monkeypatch.setattr(what, failing)
            on.broker.answers[1] = lambda request: kit.fetched(
                kit.Region(record_file, 0, PIECE_BYTES_MAX)
            )
            peer = await on.peer()
            for number in range(3):
                peer.send(kit.fetch(), 4, number)
                answer, response = await peer.response(1, 4)
                assert answer == number
                assert len(response.responses[0].partitions[0].records) == PIECE_BYTES_MAX
            assert len(asked) == 1
        on.server.sending.helper.close()

    kit.run(main())
