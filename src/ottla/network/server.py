"""Listeners: accept connections, bound them, sweep them, stop them.

Rules:
- At ``max_connections`` nobody is accepted until one leaves: further peers wait in the listen queue, as in
  Kafka. Above ``max_connections_per_ip`` a peer is accepted and closed.
- Out of descriptors, accepting pauses and goes on when there are some; one line says so, another that it is over.
- One sweep over the connections every few seconds finds the idle and the stalled; there is no timer a connection.
- Everything here runs on one event loop; nothing but reading cold files uses a thread.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from time import thread_time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ottla import capabilities
from ottla.clock import Clock, SystemClock
from ottla.logs import logger
from ottla.messages.registry import API_NAMES, api
from ottla.network.budget import SharedBudget
from ottla.network.connection import Connection
from ottla.network.failing import ErrorResponse
from ottla.network.framing import FrameMemory, new_scratch
from ottla.network.joining import Joining
from ottla.network.limits import NetworkLimits
from ottla.network.readiness import Readiness
from ottla.network.sending import Sending
from ottla.network.stepping import Dispatch
from ottla.network.transport import PlainTransport
from ottla.network.turns import Turns
from ottla.wire.schema import Message

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.network.meter import RequestMeter

log = logger(__name__)

SWEEP_S_MAX = 5.0
"""The longest time between two sweeps."""

SWEPT_AT_ONCE = 256
"""Thousands of idle connections are looked at in so many turns of the loop that nobody notices."""

ACCEPT_RETRY_S = 0.2
"""How long accepting pauses when descriptors or memory have run out."""


FREE_PORT_ATTEMPTS = 16
"""How often a free port is looked for that is free on all addresses of a listener."""

SupportedVersions: TypeAlias = Mapping[int, tuple[int, int]]

_Address: TypeAlias = "tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]"


class Listener(NamedTuple):
    """One listener, with the port that it really has."""

    name: str
    host: str
    port: int
    sockets: tuple[socket.socket, ...]


class Server:
    """The network side of a broker.

    ``dispatch`` gets every request and returns its answer: a message, an awaitable of one (a future that
    belongs to this request alone: it is cancelled when the connection dies; or a coroutine, which runs on),
    a generator that makes it in steps (``stepping``), or ``None`` where none is due. ``error_response`` makes the answer to a request whose handler raised
    (``None``: hang up). ``settle`` does what answers that are ``Unsettled`` wait for. ``apis`` gives the
    versions that are accepted, by API key. ``meter`` counts the answers; without one nothing is counted.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        *,
        limits: NetworkLimits | None = None,
        apis: SupportedVersions | None = None,
        error_response: ErrorResponse | None = None,
        clock: Clock | None = None,
        budget: SharedBudget | None = None,
        meter: RequestMeter | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self.dispatch = dispatch
        self.meter = meter
        self.refused: Counter[str] = Counter()
        """By listener, the connections that were closed because their address had too many."""
        self.error_response = error_response
        self.settle = settle
        self.limits = limits if limits is not None else NetworkLimits()
        self.apis = apis if apis is not None else _all_apis()
        self.clock = clock if clock is not None else SystemClock()
        self.budget = (
            budget if budget is not None else SharedBudget(self.limits.queued_max_request_bytes)
        )
        self.loop = asyncio.get_running_loop()
        self.scratch = new_scratch()
        self.sending = Sending(self.loop)
        self.frame_memory = FrameMemory()
        self.turns = Turns(self.loop.call_soon, self.loop.time, thread_time)
        self.joining = Joining(self)
        self._readiness: Readiness | None = None
        self.connections: dict[int, Connection] = {}
        self.listeners: list[Listener] = []
        self._admitted: dict[int, str] = {}
        self._per_host: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Message | None]] = set()
        self._accepting: set[asyncio.Task[None]] = set()
        self._serial = 0
        self._room: asyncio.Event = asyncio.Event()
        self._sweeper: asyncio.Handle | None = None
        self._stopping = False

    # -- listening

    async def bind(self, host: str | None, port: int, *, name: str = "PLAINTEXT") -> Listener:
        """Take every address of ``host`` (``None``: all of the machine) without accepting anybody yet.

        Port 0 is a free one, the same for all addresses; ``localhost`` is 127.0.0.1 and ::1 whatever the
        resolver says, as far as the machine has them. The caller closes the sockets if it does not go on to
        ``accept``. Raises ``OSError`` if none of the addresses can be had, or one is taken.
        """
        try:
            sockets = await self._bind(host, port)
        except socket.gaierror as error:
            raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return Listener(name, host or "", sockets[0].getsockname()[1], tuple(sockets))

    def accept(self, listener: Listener, *, ssl: SSLContext | None = None) -> None:
        """Accept connections on what ``bind`` has taken. Raises ``OSError``: another got there first."""
        self.listeners.append(listener)
        if self._readiness is None and ssl is None and capabilities.epoll is not None:
            self._readiness = Readiness(self.loop, capabilities.epoll(), self.joining, self.turns)
        for sock in listener.sockets:
            try:
                sock.listen(self.limits.socket_listen_backlog_size)
            except OSError as error:
                raise OSError(error.errno, _cannot_listen(sock.getsockname(), error)) from error
            task = self.loop.create_task(self._accept(sock, listener.name, ssl))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)
        if self._sweeper is None:
            self._sweep()

    async def listen(
        self,
        host: str | None,
        port: int,
        *,
        name: str = "PLAINTEXT",
        ssl: SSLContext | None = None,
    ) -> Listener:
        """``bind`` and ``accept``."""
        listener = await self.bind(host, port, name=name)
        self.accept(listener, ssl=ssl)
        return listener

    def protocol(self, listener_name: str) -> Connection:
        """A protocol for a connection that somebody else has accepted (a simulation, a test)."""
        self._serial += 1
        return Connection(self, listener_name, self._serial)

    async def _bind(self, host: str | None, port: int) -> list[socket.socket]:
        found = await _addresses(host, port)
        attempts = 1 if port else FREE_PORT_ATTEMPTS
        while True:
            attempts -= 1
            try:
                return self._bind_all(found, port)
            except OSError as error:
                # A port that was free for one address is another's on the next.
                if error.errno != errno.EADDRINUSE or not attempts:
                    raise

    def _bind_all(self, found: list[_Address], port: int) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        refused: OSError | None = None
        for family, address in found:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            except OSError as error:  # a machine without IPv6
                refused = error
                continue
            try:
                sock.setblocking(False)
                if capabilities.REUSE_ADDRESS:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                _tune(sock, self.limits)
                sock.bind((address[0], port, *address[2:]))
                port = sock.getsockname()[1]
                sockets.append(sock)
            except OSError as error:
                sock.close()
                refused = OSError(error.errno, _cannot_listen((address[0], port), error))
                if error.errno == errno.EADDRINUSE:
                    break
        if refused is not None and (not sockets or refused.errno == errno.EADDRINUSE):
            for sock in sockets:
                sock.close()
            raise refused
        return sockets

    async def _accept(self, sock: socket.socket, name: str, ssl: SSLContext | None) -> None:
        loop = self.loop
        exhausted = False
        try:
            while True:
                while len(self._admitted) >= self.limits.max_connections:
                    self._room.clear()
                    await self._room.wait()
                try:
                    accepted, address = await loop.sock_accept(sock)
                except ConnectionAbortedError:
                    await asyncio.sleep(0)
                    continue
                except OSError as error:
                    if not exhausted:
                        exhausted = True
                        log.error("cannot accept connections", reason=str(error), listener=name)
                    await asyncio.sleep(ACCEPT_RETRY_S)
                    continue
                if exhausted:
                    exhausted = False
                    log.info("accepting connections again", listener=name)
                if self._stopping:
                    accepted.close()
                    return
                self._admit(accepted, address[0], name, ssl)
                await asyncio.sleep(0)  # a flood of peers must not hold up those that are here
        finally:
            sock.close()

    def _admit(self, sock: socket.socket, host: str, name: str, ssl: SSLContext | None) -> None:
        limits = self.limits
        if self._per_host[host] >= limits.ip_limits.get(host, limits.max_connections_per_ip):
            self.refused[name] += 1
            log.info("connection refused: too many from its address", peer=host, listener=name)
            sock.close()
            return
        connection = self.protocol(name)
        self._admitted[connection.serial] = host
        self._per_host[host] += 1
        if ssl is None and self._readiness is not None:
            try:
                PlainTransport(self.loop, self._readiness, sock, connection)
            except OSError as error:
                sock.close()
                self._failed_at_start(connection, host, error)
            return
        task = self.loop.create_task(self._welcome(connection, sock, host, ssl))
        self._accepting.add(task)
        task.add_done_callback(partial(self._welcomed, connection, sock))

    async def _welcome(
        self, connection: Connection, sock: socket.socket, host: str, ssl: SSLContext | None
    ) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: connection, sock, ssl=ssl)
        except OSError as error:
            self._failed_at_start(connection, host, error)

    def _failed_at_start(self, connection: Connection, host: str, error: OSError) -> None:
        self._left(connection.serial)
        log.info("connection failed at its start", peer=host, reason=str(error))

    def _welcomed(
        self, connection: Connection, sock: socket.socket, task: asyncio.Task[None]
    ) -> None:
        self._accepting.discard(task)
        if task.cancelled():  # perhaps before it had begun
            self._left(connection.serial)
            sock.close()

    # -- what connections call

    def connection_made(self, connection: Connection) -> None:
        """A connection is there."""
        self.connections[connection.serial] = connection

    def connection_lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.pop(connection.serial, None)
        self._left(connection.serial)

    def run(self, answer: Awaitable[Message | None]) -> asyncio.Task[Message | None]:
        """Run a handler's coroutine; it outlives its connection, but not the server."""

        async def run() -> Message | None:
            return await answer

        task = self.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _left(self, serial: int) -> None:
        host = self._admitted.pop(serial, None)
        if host is not None:
            self._per_host[host] -= 1
            if not self._per_host[host]:
                del self._per_host[host]
        self._room.set()

    # -- time and the end

    def _sweep(self) -> None:
        self._sweep_some(list(self.connections.values()))

    def _sweep_some(self, left: list[Connection]) -> None:
        """Look at some of them, and at the others when what is ready meanwhile has been handled."""
        now = self.loop.time()
        for connection in left[-SWEPT_AT_ONCE:]:
            if connection.serial in self.connections:  # else it has left since
                connection.sweep(now)
        del left[-SWEPT_AT_ONCE:]
        if left:
            self._sweeper = self.loop.call_soon(self._sweep_some, left)
            return
        self.frame_memory.sweep()
        limits = self.limits
        shortest_ms = min(
            limits.write_stall_ms,
            limits.connections_max_idle_ms if limits.connections_max_idle_ms >= 0 else 1_000_000,
        )
        interval_s = max(0.01, min(SWEEP_S_MAX, shortest_ms / 4000))
        self._sweeper = self.loop.call_later(interval_s, self._sweep)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop accepting, let the answers that are owed go out for up to ``grace_s``, close everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._stopping = True
        for listener in self.listeners:
            for sock in listener.sockets:
                # Or asyncio accepts for a task that is cancelled, and leaks that. Windows' loop has no readers.
                with suppress(NotImplementedError):
                    if sock.fileno() >= 0:
                        self.loop.remove_reader(sock)
        await asyncio.sleep(0)  # who was accepted in this very turn is let go
        for task in list(self._accepting):
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self.listeners:
            for sock in listener.sockets:
                sock.close()
        for connection in list(self.connections.values()):
            connection.finish()
        deadline = self.loop.time() + grace_s
        while self.connections and self.loop.time() < deadline:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), max(0.0, deadline - self.loop.time()))
            except TimeoutError:
                break
        for connection in list(self.connections.values()):
            connection.abort("the broker stops")
        while self.connections:
            self._room.clear()
            await self._room.wait()
        self.sending.helper.close()
        if self._readiness is not None:
            self._readiness.close()
        for answer in list(self._tasks):
            answer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _tune(sock: socket.socket, limits: NetworkLimits) -> None:
    """Set on a listening socket what its connections inherit.

    Buffers must be set here, for the window scale is settled with the first packet; and ``TCP_NODELAY``,
    for the event loop sets it only where the socket's protocol is spelled out (an answer waited 40 ms).
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if limits.socket_send_buffer_bytes > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.socket_send_buffer_bytes)
    if limits.socket_receive_buffer_bytes > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.socket_receive_buffer_bytes)


def _all_apis() -> dict[int, tuple[int, int]]:
    versions = {key: api(key).versions for key in API_NAMES}
    return {key: (lo, hi) for key, (lo, hi) in versions.items()}


def _cannot_listen(address: tuple[Any, ...], error: OSError) -> str:
    host, port = address[:2]
    return f"cannot listen on {host}:{port}: {error.strerror}"


async def _addresses(host: str | None, port: int) -> list[_Address]:
    """Where to listen. A number is not looked up: that would start a thread."""
    if host is not None and host.lower() == "localhost":
        return [
            (socket.AF_INET, ("127.0.0.1", port)),
            (socket.AF_INET6, ("::1", port, 0, 0)),
        ]
    flags = socket.AI_PASSIVE
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]
