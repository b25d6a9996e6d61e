"""A relay hands connections on, holds them and breaks them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.testing.relay import Relay
from tests.support.waiting import eventually_true

HOST = "127.0.0.1"


async def echo(opened: Any) -> tuple[Relay, list[bytes]]:
    """A relay to a server that says everything back, and what that server has heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                heard.append(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # that is what some of these tests do
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    opened.things.append(server)
    port = server.sockets[0].getsockname()[1]
    relay = Relay(lambda: (HOST, port))
    opened.things.append(relay)
    await relay.listen()
    return relay, heard


async def connect(opened: Any, relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the relay."""
    reader, writer = await asyncio.open_connection(HOST, relay.port)
    opened.things.append(writer)
    return reader, writer


async def test_what_is_sent_arrives_both_ways_and_so_does_the_end(opened: Any) -> None:
    relay, _ = await echo(opened)
    reader, writer = await connect(opened, relay)
    content = bytes(range(256)) * 20_000
    writer.write(content)
    writer.write_eof()
    assert await reader.read(-1) == content


async def test_a_held_relay_lets_nothing_through_until_it_is_let(opened: Any) -> None:
    relay, heard = await echo(opened)
    reader, writer = await connect(opened, relay)
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    relay.let(False)
    writer.write(b"while")
    _, late = await connect(opened, relay)
    late.write(b"later")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(reader.readexactly(1)), 0.05)
    assert heard == [b"before"]
    relay.let(True)
    await eventually_true(lambda: _is(sorted(heard), [b"before", b"later", b"while"]), "all of it")


async def test_a_relay_that_refuses_breaks_connections_and_takes_none_until_it_listens(
    opened: Any,
) -> None:
    relay, _ = await echo(opened)
    reader, writer = await connect(opened, relay)
    writer.write(b"x")
    await reader.readexactly(1)
    relay.refuse()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    with pytest.raises(ConnectionRefusedError):
        await connect(opened, relay)
    await relay.listen()
    reader, again = await connect(opened, relay)
    again.write(b"y")
    assert await reader.readexactly(1) == b"y"


async def test_a_connection_to_nobody_is_reset(opened: Any) -> None:
    def nobody() -> tuple[str, int]:
        raise ConnectionRefusedError

    relay = Relay(nobody)
    opened.things.append(relay)
    await relay.listen()
    reader, _ = await connect(opened, relay)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)


async def _is(found: object, wanted: object) -> bool:
    return found == wanted
