"""The HTTP responder: what it answers, and what it does not put up with."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from ottla.network import http
from ottla.network.http import HttpServer, Reply
from tests.unit.network.conftest import run, until


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run_it(*arguments: Any, **named: Any) -> None:
        run(test(*arguments, **named))

    return run_it


async def answer(path: str) -> Reply | None:
    if path == "/fails":
        raise ZeroDivisionError("secret")
    if path == "/slow":
        await asyncio.Event().wait()
    if path == "/large":
        return Reply(200, "text/plain", b"x" * 50_000_000)
    return Reply(200, "text/plain", b"hello") if path == "/here" else None


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(answer)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    await server.serve((sock,))
    try:
        yield server, sock.getsockname()[1]
    finally:
        await server.stop()


async def ask(port: int, request: bytes) -> bytes:
    """All that comes until the server hangs up; nothing where it cut the connection off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/here"), b"200 OK"),
        (get("/here?q=1"), b"200 OK"),
        (get("/nowhere"), b"404 Not Found"),
        (get("/fails"), b"500 Internal Server Error"),
        (get("here"), b"400 Bad Request"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"\x00\x00\x00\x0a\xff\xfe\r\n\r\n", b"400 Bad Request"),
        (b"GET /here\r\n\r\n", b"400 Bad Request"),
        (b"POST /here HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405 Method Not Allowed"),
        (get("/" + "x" * 9000), b"431 Request Header Fields Too Large"),
        (b"x" * 9000, b"431 Request Header Fields Too Large"),
    ],
)  # fmt: skip
@in_a_loop
async def test_a_request_is_answered_and_the_connection_closed(
    request_bytes: bytes, status: bytes
) -> None:
    async with serving() as (_, port):
        got = await ask(port, request_bytes)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    assert b"secret" not in got


@in_a_loop
async def test_a_request_may_come_in_pieces_and_head_has_no_body() -> None:
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in b"HEAD /here HTTP/1.0\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
        got = await reader.read()
        writer.close()
    assert got.endswith(b"\r\n\r\n")
    assert b"Content-Length: 5\r\n" in got


@in_a_loop
async def test_who_sends_slowly_or_reads_slowly_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "REQUEST_S_MAX", 0.05)
    monkeypatch.setattr(http, "ANSWER_S_MAX", 0.1)
    async with serving() as (server, port):
        assert await ask(port, b"GET /here") == b""
        assert await ask(port, get("/slow")) == b""
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(get("/large"))
        await writer.drain()
        await until(lambda: server.connections)
        await until(lambda: not server.connections)  # nothing is read here
        writer.close()


@in_a_loop
async def test_more_than_so_many_at_once_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)
    async with serving() as (server, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: len(server.connections) == 2)
        assert await ask(port, get("/here")) == b""
        for _, writer in held:
            writer.close()
        await until(lambda: not server.connections)
        assert b"hello" in await ask(port, get("/here"))


@in_a_loop
async def test_stopping_cuts_off_who_is_there() -> None:
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/slow"))
        await until(lambda: server.connections)
        await server.stop()
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert not server.connections
