"""A request that comes in very small pieces is gathered by the kernel, and read in few."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ottla.network.trickle import GATHERED_BYTES, PIECES

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "SO_RCVLOWAT"), reason="the kernel gathers nothing here"
)


def lowat(connection: Any) -> int:
    found: int = connection._transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_RCVLOWAT
    )
    return found


async def trickle(kit: Any, peer: Any, connection: Any, content: bytes, pieces: int) -> bytes:
    """Send so many bytes, each when the one before it has been read; what is left."""
    for _ in range(pieces):
        wanting = connection._framer.wanting, connection._framer._end
        peer.writer.write(content[:1])
        content = content[1:]
        await kit.until(
            lambda seen=wanting: (connection._framer.wanting, connection._framer._end) != seen
        )
    return content


@pytest.mark.parametrize("size", [600, 20_000])
def test_a_request_byte_by_byte_is_gathered_and_the_next_is_read_at_once(
    kit: Any, size: int
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            await kit.until(lambda: on.server.connections)
            connection = next(iter(on.server.connections.values()))
            content = kit.frame(kit.produce(size=size), 9, 1)
            left = await trickle(kit, peer, connection, content, PIECES + 3)
            await kit.until(lambda: connection._trickle.gathers > 1)
            assert (
                connection._trickle.gathers == lowat(connection) == min(GATHERED_BYTES, len(left))
            )
            peer.writer.write(left)
            assert (await peer.response(0, 9))[0] == 1
            await kit.until(lambda: lowat(connection) == 1)
            peer.send(kit.heartbeat(), 4, 2)
            assert (await peer.response(12, 4))[0] == 2

    kit.run(main())


def test_a_peer_that_leaves_while_its_request_is_gathered_is_forgotten(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            await kit.until(lambda: on.server.connections)
            connection = next(iter(on.server.connections.values()))
            content = kit.frame(kit.produce(size=20_000), 9, 1)
            await trickle(kit, peer, connection, content, PIECES + 3)
            await kit.until(lambda: connection._trickle.gathers > 1)
            await peer.close()
            await kit.until(lambda: not on.server.connections)
            assert not on.broker.requests

    kit.run(main())
