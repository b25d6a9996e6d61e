"""The transport of accepted connections keeps asyncio's rules, and what it reads with others' is read in one call."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ottla import capabilities
from ottla.capabilities import POLL_IN
from ottla.network import readiness
from ottla.network.readiness import Readiness
from ottla.network.transport import PlainTransport
from ottla.network.turns import Turns

pytestmark = pytest.mark.skipif(capabilities.epoll is None, reason="there is no epoll")

LARGE = 16 << 20
"""More than the kernel keeps for a connection."""


class Rounds:
    """Counts the calls in which sockets were read; what a ``Joining`` is told."""

    def __init__(self) -> None:
        self.more_comes = False
        self.count = 0

    def read_over(self) -> None:
        self.more_comes = False
        self.count += 1


class Protocol(asyncio.BufferedProtocol):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.buffer = bytearray(1 << 16)
        self.got = bytearray()
        self.calls: list[Any] = []
        self.on_data: Callable[[], None] = lambda: None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.calls.append("made")

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]
        self.on_data()

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(type(exc))


class House:
    """Transports in one ``Readiness``, with the sockets of their peers."""

    def __init__(self) -> None:
        assert capabilities.epoll is not None
        self.loop = asyncio.get_running_loop()
        self.rounds = Rounds()
        joining: Any = self.rounds
        turns = Turns(self.loop.call_soon, self.loop.time, self.loop.time)
        self.readiness = Readiness(self.loop, capabilities.epoll(), joining, turns)
        self.errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self._peers: list[socket.socket] = []
        self._protocols: list[Protocol] = []

    def connect(self) -> tuple[Protocol, socket.socket]:
        """A transport's protocol, and the other end."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = socket.create_connection(listening.getsockname())
            ours, _ = listening.accept()
        ours.setblocking(False)
        peer.setblocking(False)
        protocol = Protocol()
        PlainTransport(self.loop, self.readiness, ours, protocol)
        self._peers.append(peer)
        self._protocols.append(protocol)
        return protocol, peer

    def close(self) -> None:
        for protocol in self._protocols:
            protocol.transport.abort()
        for peer in self._peers:
            peer.close()
        self.readiness.close()


@contextmanager
def house() -> Iterator[House]:
    made = House()
    try:
        yield made
    finally:
        made.close()


async def turns(count: int = 20) -> None:
    """Enough turns of the loop for whatever is going to happen without anybody's doing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def received(peer: socket.socket, size: int) -> bytes:
    """So many bytes that the peer has been sent."""
    loop = asyncio.get_running_loop()
    got = bytearray()
    while len(got) < size:
        part = await loop.sock_recv(peer, 1 << 20)
        if not part:
            break
        got += part
    return bytes(got)


def test_what_comes_is_given_to_the_protocol_and_what_is_written_goes_out(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            assert protocol.calls == ["made"]
            assert protocol.transport.get_extra_info("peername") == peer.getsockname()
            assert protocol.transport.get_extra_info("sockname") == peer.getpeername()
            peer.send(b"question")
            await kit.until(lambda: protocol.got == b"question")
            protocol.transport.write(b"")
            protocol.transport.write(b"answer")
            assert await received(peer, 6) == b"answer"

    kit.run(main())


def test_connections_that_are_ready_at_one_moment_are_read_in_one_call(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            ends = [here.connect() for _ in range(10)]
            await turns()
            before = here.rounds.count
            for index, (_, peer) in enumerate(ends):
                peer.send(bytes([index]))
            await kit.until(lambda: here.rounds.count > before)
            assert [protocol.got for protocol, _ in ends] == [bytes([n]) for n in range(10)]
            assert here.rounds.count == before + 1
            assert not here.rounds.more_comes

    kit.run(main())


def test_more_connections_than_are_read_at_once_are_all_read(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "AT_ONCE", 2)

    async def main() -> None:
        with house() as here:
            ends = [here.connect() for _ in range(5)]
            busy = ends[0][0]
            for _, peer in ends:
                peer.send(b"x")
            # One that always has more does not keep the others waiting.
            busy.on_data = lambda: ends[0][1].send(b"x") and None
            await kit.until(lambda: all(protocol.got for protocol, _ in ends))

    kit.run(main())


def test_what_the_socket_does_not_take_is_kept_and_follows_in_order(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            transport = protocol.transport
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            data = bytes(range(256)) * (LARGE // 256)
            transport.write(data)
            transport.write(b"the end")
            assert protocol.calls == ["made", "pause"]
            assert transport.get_write_buffer_size() > 1000
            assert await received(peer, LARGE + 7) == data + b"the end"
            await kit.until(lambda: protocol.calls == ["made", "pause", "resume"])
            assert transport.get_write_buffer_size() == 0

    kit.run(main())


def test_closing_lets_go_out_what_was_written(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            protocol.transport.write(bytes(LARGE))
            protocol.transport.close()
            protocol.transport.close()
            assert protocol.transport.is_closing()
            assert len(await received(peer, LARGE + 1)) == LARGE
            await kit.until(lambda: protocol.calls[-1] is type(None))

    kit.run(main())


def test_aborting_does_not_wait_for_the_peer(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, _ = here.connect()
            protocol.transport.write(bytes(LARGE))
            protocol.transport.abort()
            protocol.transport.abort()
            assert type(None) not in protocol.calls  # not while its caller is still at work
            await turns()
            assert protocol.calls.count(type(None)) == 1
            protocol.transport.write(b"too late")

    kit.run(main())


def test_a_peer_that_has_said_all_is_hung_up_on(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            peer.send(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await kit.until(lambda: len(protocol.calls) == 3)
            assert (protocol.got, protocol.calls) == (b"last words", ["made", "eof", type(None)])
            assert await received(peer, 1) == b""

    kit.run(main())


def reset(peer: socket.socket) -> None:
    """Hang up without a farewell."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_a_peer_that_resets_the_connection_is_an_error(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            reset(peer)
            await kit.until(lambda: protocol.calls[-1] is ConnectionResetError)
            assert not here.errors

    kit.run(main())


def test_who_is_paused_is_told_of_nothing_until_it_reads_again(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            protocol.transport.pause_reading()
            assert not protocol.transport.is_reading()
            peer.send(b"later")
            reset(
                peer
            )  # an error that is there all the time: nobody is to be woken by it again and again
            before = here.rounds.count
            await turns()
            assert (here.rounds.count, protocol.got, protocol.calls) == (before, b"", ["made"])
            protocol.transport.resume_reading()
            await kit.until(lambda: len(protocol.calls) == 2)

    kit.run(main())


def test_a_write_to_a_peer_that_is_gone_ends_the_connection(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            protocol.transport.pause_reading()
            protocol.transport.write(bytes(LARGE))
            reset(peer)
            await kit.until(lambda: isinstance(protocol.calls[-1], type))
            assert issubclass(protocol.calls[-1], ConnectionError)
            assert not here.errors

    kit.run(main())


@pytest.mark.parametrize("kind", [ValueError, OSError, ConnectionError])
def test_one_protocols_failure_is_told_and_is_no_others(kit: Any, kind: type[Exception]) -> None:
    async def main() -> None:
        with house() as here:
            (bad, bad_peer), (good, good_peer) = here.connect(), here.connect()

            def fail() -> None:
                raise kind("a fault of ours")

            bad.on_data = fail
            bad_peer.send(b"x")
            good_peer.send(b"y")
            await kit.until(lambda: good.got == b"y" and bad.calls[-1] is kind)
            assert [type(error["exception"]) for error in here.errors] == [kind]

    kit.run(main())


def test_who_was_closed_by_one_read_before_it_is_not_read(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            ends = [here.connect() for _ in range(2)]
            for index, (protocol, _) in enumerate(ends):
                protocol.on_data = ends[1 - index][0].transport.abort
            for _, peer in ends:
                peer.send(b"x")
            await kit.until(lambda: any(type(None) in protocol.calls for protocol, _ in ends))
            await turns()
            assert sorted(bytes(protocol.got) for protocol, _ in ends) == [b"", b"x"]

    kit.run(main())


def test_a_buffer_without_room_is_an_error_and_no_end_of_the_stream(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            protocol, peer = here.connect()
            protocol.buffer = bytearray()
            peer.send(b"x")
            await kit.until(lambda: protocol.calls[-1] is RuntimeError)
            assert len(here.errors) == 1

    kit.run(main())


def test_a_server_without_epoll_serves_as_well(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "epoll", None)

    async def main() -> None:
        async with kit.stage() as stage:
            peer = await stage.peer()
            peer.send(kit.produce(), 9, 7)
            assert (await peer.response(0, 9))[0] == 7
            [connection] = stage.server.connections.values()
            assert not isinstance(connection._transport, PlainTransport)

    kit.run(main())


class Refusing:
    """An ``epoll`` that takes nobody in while it is told so."""

    def __init__(self, epoll: Any) -> None:
        self._epoll = epoll
        self.refusals = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def register(self, descriptor: int, events: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "too many watched")
        self._epoll.register(descriptor, events)


def test_a_connection_that_the_system_does_not_watch_is_closed_and_the_next_one_served(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert capabilities.epoll is not None
    made = Refusing(capabilities.epoll())
    monkeypatch.setattr(capabilities, "epoll", lambda: made)

    async def main() -> None:
        async with kit.stage() as stage:
            made.refusals = 1
            refused = await stage.peer()
            assert await refused.hung_up() == b""
            assert not stage.server.connections
            assert not stage.server._admitted
            peer = await stage.peer()
            peer.send(kit.produce(), 9, 7)
            assert (await peer.response(0, 9))[0] == 7
            stage.server._sweep_some(list(stage.server.connections.values()))

    kit.run(main())


def test_one_that_is_not_watched_any_more_ends_and_takes_nobody_else_along(kit: Any) -> None:
    async def main() -> None:
        with house() as here:
            (one, _), (other, peer) = here.connect(), here.connect()
            refusing = Refusing(here.readiness._epoll)
            here.readiness._epoll = refusing
            one.transport.pause_reading()
            refusing.refusals = 1
            one.transport.resume_reading()
            await kit.until(lambda: one.calls == ["made", OSError])
            peer.send(b"x")
            await kit.until(lambda: other.got == b"x")
            here.readiness.watch(other.transport._descriptor, 0, POLL_IN, one.transport)
            peer.send(b"y")
            await kit.until(lambda: other.got == b"xy")

    kit.run(main())
