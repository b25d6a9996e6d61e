"""What a session's connection makes of a server's answers, with a server whose every answer is the test's."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kazoo.exceptions import ConnectionLoss

from ottla.coordination import zookeeper_requests
from ottla.coordination.connect_string import Server
from ottla.coordination.zookeeper_link import Link, LinkChange, LinkState

SESSION = 0x1234
TIMEOUT_MS = 60_000
STAT = bytes(68)


class Scripted:
    """A server that takes every session up, and leaves the answers to the test."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.requests: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        """Number and type of each, of all connections."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._frame(reader)
            writer.write(framed(struct.pack("!iiqi16s?", 0, TIMEOUT_MS, SESSION, 16, b"p", False)))
            self.calls.put_nowait(writer)
            while True:
                self.requests.put_nowait(struct.unpack_from("!ii", await self._frame(reader)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readexactly(struct.unpack("!i", await reader.readexactly(4))[0])


def framed(body: bytes) -> bytes:
    return struct.pack("!i", len(body)) + body


def answer(number: int, body: bytes = STAT) -> bytes:
    return framed(struct.pack("!iqi", number, 1, 0) + body)


class Session:
    """A link to a scripted server, and what it told."""

    def __init__(self, server: Scripted, address: Server) -> None:
        self.server = server
        self.changes: asyncio.Queue[LinkChange] = asyncio.Queue()
        self.link = Link(
            [address],
            TIMEOUT_MS,
            on_change=self.changes.put_nowait,
            on_event=lambda kind, path: None,
        )
        self.link.open()

    async def connected(self) -> tuple[asyncio.StreamWriter, int]:
        """The server's side of the connection that is there now, and the connection's generation."""
        while (change := await self.changes.get()).state is not LinkState.CONNECTED:
            assert change.state is LinkState.SUSPENDED, change
        return await self.server.calls.get(), change.generation

    def ask(self, generation: int) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(value: Any, error: Exception | None) -> None:
            if error is None:
                reply.set_result(value)
            else:
                reply.set_exception(error)

        assert self.link.submit(zookeeper_requests.exists("/x", watch=False), generation, take)
        return reply


@asynccontextmanager
async def a_session() -> AsyncIterator[Session]:
    scripted = Scripted()
    async with await asyncio.start_server(scripted.serve, "127.0.0.1", 0) as listening:
        session = Session(scripted, listening.sockets[0].getsockname())
        try:
            yield session
        finally:
            session.link.cut()
            await session.link.end()


async def test_no_two_requests_of_a_session_have_the_same_number() -> None:
    """A commit of what an earlier connection sent would answer the later one: ZooKeeper matches them by number."""
    async with a_session() as session:
        numbers = []
        for _ in range(3):
            writer, generation = await session.connected()
            replies = [session.ask(generation) for _ in range(2)]
            for reply in replies:
                number, _ = await session.server.requests.get()
                numbers.append(number)
                writer.write(answer(number))
                assert await reply is not None
            writer.close()
        assert numbers == sorted(set(numbers))


async def test_an_answer_to_another_request_costs_the_connection_and_not_the_session() -> None:
    async with a_session() as session:
        writer, generation = await session.connected()
        replies = [session.ask(generation) for _ in range(2)]
        _, second = [(await session.server.requests.get())[0] for _ in replies]
        writer.write(answer(second))
        for error in await asyncio.gather(*replies, return_exceptions=True):
            assert isinstance(error, ConnectionLoss), "what became of it is not known"
        writer, generation = await session.connected()
        reply = session.ask(generation)
        writer.write(answer((await session.server.requests.get())[0]))
        assert await reply is not None


async def test_an_answer_that_nobody_waits_for_costs_the_connection_and_not_the_session() -> None:
    async with a_session() as session:
        writer, _ = await session.connected()
        writer.write(answer(1))
        writer, generation = await session.connected()
        reply = session.ask(generation)
        writer.write(answer((await session.server.requests.get())[0]))
        assert await reply is not None
