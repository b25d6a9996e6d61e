"""A very small HTTP/1.1 responder, for machines that ask how the broker is: GET and HEAD, one request a connection.

Rules:
- Everything is bounded: connections, the bytes of a request, the time that it may take to come and its answer
  to be read. Whoever exceeds a bound is cut off, or turned away where none is left.
- It runs in the broker's own loop and never blocks it; an answer is made by a coroutine.
- It knows no broker: ``answer(path)`` gives a ``Reply``, ``None`` for a path that there is not.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

from ottla.logs import logger

log = logger(__name__)

CONNECTIONS_MAX = 32
REQUEST_BYTES_MAX = 8 * 1024
REQUEST_S_MAX = 5.0
"""How long a request may take to come."""
ANSWER_S_MAX = 15.0
"""How long an answer may take to be made and read."""

_PHRASES = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


class Reply(NamedTuple):
    """An answer: the status, what the body is, the body."""

    status: int
    content_type: str
    body: bytes


Answerer = Callable[[str], Awaitable[Reply | None]]


class HttpServer:
    """Answers on sockets that are bound already."""

    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self.connections: set[_Exchange] = set()
        self._servers: list[asyncio.Server] = []

    async def serve(self, sockets: tuple[socket.socket, ...]) -> None:
        """Accept on ``sockets``, which belong to this from here on. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(
                await loop.create_server(
                    lambda: _Exchange(self), sock=sock, backlog=CONNECTIONS_MAX
                )
            )

    async def stop(self) -> None:
        """Accept nobody any more, and cut off who is there."""
        for server in self._servers:
            server.close()
        for exchange in list(self.connections):
            exchange.cut_off()
        for server in self._servers:
            await server.wait_closed()


class _Exchange(asyncio.Protocol):
    """One connection: one request, one answer."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there; too many are turned away."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= CONNECTIONS_MAX:
            self._transport.abort()
            return
        self._server.connections.add(self)
        self._limit(REQUEST_S_MAX)

    def data_received(self, data: bytes) -> None:
        """A part of the request has come; what comes behind it is not looked at."""
        if self._task is not None or self._transport.is_closing():
            return
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 and len(self._received) <= REQUEST_BYTES_MAX:
            return
        self._transport.pause_reading()
        self._limit(ANSWER_S_MAX)
        if end < 0 or end > REQUEST_BYTES_MAX:
            self._write(_refusal(431), with_body=True)
            return
        self._task = asyncio.get_running_loop().create_task(
            self._answer(bytes(self._received[: self._received.find(b"\r\n")]))
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def cut_off(self) -> None:
        """End it now."""
        self._transport.abort()

    def _limit(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cut_off)

    async def _answer(self, request_line: bytes) -> None:
        method, _, rest = request_line.decode("latin-1").partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not target.startswith("/"):
            reply: Reply | None = _refusal(400)
        elif method not in ("GET", "HEAD"):
            reply = _refusal(405)
        else:
            try:
                reply = await self._server.answer(target.partition("?")[0])
            except Exception as error:  # ours to mend; the peer learns nothing of it
                log.error("an HTTP request failed", error=error)
                reply = _refusal(500)
        self._write(reply if reply is not None else _refusal(404), with_body=method != "HEAD")

    def _write(self, reply: Reply, *, with_body: bool) -> None:
        allow = "Allow: GET, HEAD\r\n" if reply.status == 405 else ""
        head = (
            f"HTTP/1.1 {reply.status} {_PHRASES[reply.status]}\r\n"
            f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"
            f"{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("latin-1") + (reply.body if with_body else b""))
        self._transport.close()  # once it is out; the timer sees to it that it gets out


def _refusal(status: int) -> Reply:
    return Reply(status, "text/plain; charset=utf-8", f"{_PHRASES[status]}\n".encode())
