"""Listeners bind, bound and stop as they should."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from typing import Any

import pytest

from ottla.network.limits import NetworkLimits
from ottla.network.server import SWEPT_AT_ONCE, Server


def test_port_zero_takes_a_free_port_and_says_which(kit: Any) -> None:
    async def main() -> None:
        server = Server(kit.ToyBroker().dispatch)
        first = await server.listen("127.0.0.1", 0, name="INTERNAL")
        second = await server.listen("127.0.0.1", 0)
        assert first.port > 0
        assert first.port != second.port
        assert [listener.name for listener in server.listeners] == ["INTERNAL", "PLAINTEXT"]
        await server.stop()

    kit.run(main())


def test_a_port_in_use_is_an_error_that_says_so(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{on.port}") as refused:
                await on.server.listen("127.0.0.1", on.port)
            assert refused.value.errno == errno.EADDRINUSE

    kit.run(main())


def test_localhost_is_reached_at_each_of_its_addresses(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            listener = await on.server.listen("localhost", 0)
            for sock in listener.sockets:
                assert sock.getsockname()[1] == listener.port
                reader, writer = await asyncio.open_connection(*sock.getsockname()[:2])
                peer = type(await on.peer())(reader, writer)
                peer.send(kit.heartbeat(), 4, 3)
                assert (await peer.response(12, 4))[0] == 3
                await peer.close()

    kit.run(main())


def test_a_connection_knows_its_peer(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            peer.send(kit.heartbeat(), 4, 1)
            await peer.response(12, 4)
            (request,) = on.broker.requests
            connection = request.connection
            port = peer.writer.get_extra_info("sockname")[1]
            assert (connection.peer_host, connection.peer_port) == ("127.0.0.1", port)
            assert connection.listener_name == "PLAINTEXT"
            assert connection.principal == "User:ANONYMOUS"
            assert connection.connection_id == f"127.0.0.1:{on.port}-127.0.0.1:{port}-1"
            assert request.client_id == "test"
            assert request.received_ms > 1_600_000_000_000

    kit.run(main())


def test_answers_are_not_held_back_by_the_kernel(kit: Any) -> None:
    async def main() -> None:
        limits = NetworkLimits(socket_send_buffer_bytes=40_000, socket_receive_buffer_bytes=30_000)
        async with kit.stage(limits=limits) as on:
            await on.peer()
            await kit.until(lambda: on.server.connections)
            (connection,) = on.server.connections.values()
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            # Linux reports twice what was asked for.
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 80_000
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000

    kit.run(main())


def test_connections_above_the_limit_wait_until_one_leaves(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage(limits=NetworkLimits(max_connections=2)) as on:
            peers = [await on.peer() for _ in range(4)]
            for peer in peers:
                peer.send(kit.heartbeat(), 4, 1)
            await peers[0].response(12, 4)
            await peers[1].response(12, 4)
            assert len(on.server.connections) == 2
            assert len(on.broker.requests) == 2
            await peers[0].close()
            await peers[2].response(12, 4)
            assert len(on.server.connections) == 2
            await peers[1].close()
            await peers[3].response(12, 4)

    kit.run(main())


def test_too_many_connections_from_one_address_are_closed(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage(limits=NetworkLimits(max_connections_per_ip=1)) as on:
            first = await on.peer()
            first.send(kit.heartbeat(), 4, 1)
            await first.response(12, 4)
            second = await on.peer()
            assert await second.hung_up() == b""
            await first.close()
            await kit.until(lambda: not on.server.connections)
            third = await on.peer()
            third.send(kit.heartbeat(), 4, 1)
            assert (await third.response(12, 4))[0] == 1

    kit.run(main())


def test_running_out_of_descriptors_is_said_once_and_gets_over(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            held = [await on.peer() for _ in range(3)]
            await kit.until(lambda: len(on.server.connections) == 3)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            client = socket.socket()
            client.setblocking(False)
            spare = socket.socket()  # the lowest free descriptor is the limit
            limit = spare.fileno()
            spare.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", on.port))
                await kit.until(lambda: "cannot accept connections" in messages(caplog))
                held[0].send(kit.heartbeat(), 4, 1)
                assert (await held[0].response(12, 4))[0] == 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await kit.until(lambda: "accepting connections again" in messages(caplog))
            client.close()

    with caplog.at_level(logging.INFO):
        kit.run(main())
    assert messages(caplog).count("cannot accept connections") == 1


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_stopping_lets_the_answers_that_are_owed_go_out(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer, idle = await on.peer(), await on.peer()
            peer.send(kit.produce(acks=-1), 9, 1)
            await kit.until(lambda: on.broker.parked)
            stopping = asyncio.ensure_future(on.server.stop(grace_s=10))
            assert await idle.hung_up() == b""
            assert not stopping.done()
            with pytest.raises(ConnectionRefusedError):
                await on.peer()
            on.broker.settle()
            assert (await peer.response(0, 9))[0] == 1
            assert await peer.hung_up() == b""
            await stopping

    kit.run(main())


def test_stopping_does_not_wait_for_ever(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            forever = asyncio.Event()

            async def never(request: Any) -> None:
                await forever.wait()

            on.broker.answers[12] = never
            peer, other = await on.peer(), await on.peer()
            peer.send(kit.heartbeat(), 4, 1)
            other.send(kit.produce(acks=-1), 9, 1)
            await kit.until(lambda: len(on.broker.requests) == 2)
            await on.server.stop(grace_s=0.05)
            assert await peer.hung_up() == b""
            assert await other.hung_up() == b""
            assert not on.server._tasks

    kit.run(main())


def test_only_the_given_apis_are_spoken(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage(apis={0: (3, 8), 18: (0, 3)}) as on:
            peer = await on.peer()
            peer.send(kit.produce(), 8, 1)
            assert (await peer.response(0, 8))[0] == 1
            peer.send(kit.produce(), 9, 2)
            assert await peer.hung_up() == b""

    kit.run(main())


def test_hundreds_of_connections_come_and_go(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            for _ in range(3):
                peers = await asyncio.gather(*(on.peer() for _ in range(100)))
                for peer in peers:
                    peer.send(kit.heartbeat(), 4, 1)
                for peer in peers:
                    await peer.response(12, 4)
                    await peer.close()
            await kit.until(lambda: not on.server.connections)
            assert not on.server._admitted
            assert not on.server._per_host

    kit.run(main())


def test_who_was_accepted_in_the_turn_of_the_stop_is_closed(kit: Any) -> None:
    async def main() -> None:
        server = Server(kit.ToyBroker().dispatch)
        listener = await server.listen("127.0.0.1", 0)
        with socket.create_server(("127.0.0.1", 0)) as other:
            near = socket.create_connection(other.getsockname())
            accepted, address = other.accept()
        server._admit(accepted, address[0], listener.name, None)  # its task has not begun
        await server.stop()
        assert accepted.fileno() == -1
        assert near.recv(1) == b""
        near.close()

    kit.run(main())


def test_a_sweep_over_thousands_of_connections_lets_others_go_on_meanwhile() -> None:
    async def main() -> None:
        server = Server(lambda request: None)
        swept: list[int] = []

        class Counted:
            def __init__(self, serial: int) -> None:
                self.serial = serial

            def sweep(self, now: float) -> None:
                swept.append(self.serial)
                if self.serial == 2_000:
                    del connections[1]  # the first one leaves amid the sweep

        connections: Any = server.connections
        connections.update({serial: Counted(serial) for serial in range(1, 2_001)})
        server._sweep()
        turns = 1
        while len(swept) < 1_999:
            before = len(swept)
            await asyncio.sleep(0)
            turns += 1
            assert len(swept) - before <= SWEPT_AT_ONCE
        assert sorted(swept) == list(range(2, 2_001))
        assert turns >= 2_000 // SWEPT_AT_ONCE
        assert server._sweeper is not None
        server._sweeper.cancel()

    asyncio.run(main())
