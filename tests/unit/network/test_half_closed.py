"""A peer that has said all is heard out: what it sent is handled, and an answer that is on its way arrives whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ottla import capabilities
from ottla.network.connection import Connection
from ottla.network.decoding import RequestReader
from ottla.network.joining import Joining
from ottla.network.outbox import TURN_BYTES
from ottla.network.sending import Helper
from ottla.network.turns import Turns

RECORD_BYTES = TURN_BYTES + 2_000_000
"""More than the thread gives in one go."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Whose peers have been seen to say no more."""
    seen: list[Connection] = []
    eof_received = Connection.eof_received

    def noted(connection: Connection) -> Any:
        seen.append(connection)
        return eof_received(connection)

    monkeypatch.setattr(Connection, "eof_received", noted)
    return seen


@pytest.fixture(params=["epoll", "asyncio"])
def transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds with asyncio's transports, too."""
    if request.param == "asyncio":
        monkeypatch.setattr(capabilities, "epoll", None)
    elif capabilities.epoll is None:
        pytest.skip("there is no epoll")


@pytest.mark.usefixtures("transports")
def test_what_waits_for_its_turn_is_handled_though_the_peer_has_hung_up(
    kit: Any, monkeypatch: pytest.MonkeyPatch, ends: list[Connection]
) -> None:
    """Records that nobody is told about (acks=0) were lost by a graceful close."""
    waiting: list[Callable[[], None]] = []

    async def main() -> None:
        async with kit.stage() as on:
            peers = [await on.peer() for _ in range(2)]
            await kit.until(lambda: len(on.server.connections) == 2)
            for connection in on.server.connections.values():
                connection._be_busy(True, True)
            on.server.turns.busy = 9
            monkeypatch.setattr(Turns, "wait", lambda self, turn: waiting.append(turn))
            for number, peer in enumerate(peers):
                peer.send(kit.produce(acks=0), 9, number)
                peer.send(kit.produce(acks=1), 9, 7)
                peer.writer.write_eof()
            await kit.until(lambda: len(ends) == 2)
            assert not on.broker.requests
            assert len(waiting) == 2
            for turn in waiting:
                turn()
            for peer in peers:
                assert (await peer.response(0, 9))[0] == 7
                assert await peer.hung_up() == b""
            await kit.until(lambda: not on.server.connections)
            assert len(on.broker.requests) == 4

    kit.run(main())


@pytest.mark.usefixtures("transports")
def test_what_waits_for_the_requests_of_others_is_handled_though_the_peer_has_hung_up(
    kit: Any, monkeypatch: pytest.MonkeyPatch, ends: list[Connection]
) -> None:
    unlike: Any = object()

    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            await kit.until(lambda: on.server.connections)
            (connection,) = on.server.connections.values()
            connection._reader.kind = unlike
            monkeypatch.setattr(RequestReader, "alike", lambda reader, frame: None)
            joined = Joining._run
            monkeypatch.setattr(Joining, "_run", lambda joining: None)
            peer.send(kit.produce(acks=0), 9, 1)
            peer.send(kit.produce(acks=1), 9, 7)
            peer.writer.write_eof()
            await kit.until(lambda: ends)
            assert not on.broker.requests
            joined(on.server.joining)
            assert (await peer.response(0, 9))[0] == 7
            assert await peer.hung_up() == b""
            assert len(on.broker.requests) == 2

    kit.run(main())


class Held:
    """A region whose reading waits."""

    def __init__(self) -> None:
        self.is_read = threading.Event()
        self.go_on = threading.Event()

    def __len__(self) -> int:
        return RECORD_BYTES

    def read_resident(self, offset: int, buffer: memoryview) -> int:
        self.is_read.set()
        self.go_on.wait(2)
        buffer[:] = b"r" * len(buffer)
        return len(buffer)

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.usefixtures("transports")
def test_an_answer_that_the_thread_sends_arrives_whole_though_the_peer_says_no_more(
    kit: Any, monkeypatch: pytest.MonkeyPatch, ends: list[Connection]
) -> None:
    monkeypatch.setattr("ottla.network.sending.processors", lambda: 2)
    monkeypatch.setattr(Helper, "_is_another", lambda helper, who: True)

    async def main() -> None:
        async with kit.stage() as on:
            held = Held()
            on.broker.answers[1] = lambda request: kit.fetched(held, b"behind")
            peer = await on.peer(limit=2**16)
            peer.send(kit.fetch(), 4, 3)
            peer.writer.write_eof()
            await kit.until(lambda: held.is_read.is_set() and ends)
            held.go_on.set()
            number, response = await peer.response(1, 4)
            records = [bytes(part.records) for part in response.responses[0].partitions]
            assert (number, records) == (3, [b"r" * RECORD_BYTES, b"behind"])
            assert await peer.hung_up() == b""
            await kit.until(lambda: not on.server.connections)

    kit.run(main())
