"""A port that leads to another one on the same event loop, and can stand still or break.

Rules: while a relay is held nothing passes, in either direction, and nobody is told: what is sent meanwhile arrives
once it is let through. A slow end slows the other down, so nothing grows here. A connection that cannot be handed on
is reset.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

_RESET = struct.pack("ii", 1, 0)
"""A socket that lingers for no time says so by a reset."""


class Relay:
    """Takes connections on ``port`` and hands them on to ``target``."""

    def __init__(self, target: Callable[[], tuple[str, int]], *, host: str = "127.0.0.1") -> None:
        """``target`` is asked at each connection. The port is ours from now on; ``listen`` opens it."""
        self._target = target
        self._host = host
        self._socket = _bound(host, 0)
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self.held = False

    async def listen(self) -> None:
        """Take connections."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._accept, sock=self._socket)

    def let(self, through: bool) -> None:
        """Let everything through, or nothing."""
        self.held = not through
        for pair in tuple(self._pairs):
            pair.steer()
            pair.connect()

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones until ``listen``; the port stays ours."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket.close()
            self._socket = _bound(self._host, self.port)
        self.reset()

    def reset(self) -> None:
        """Reset all connections."""
        for pair in tuple(self._pairs):
            pair.abort()

    def close(self) -> None:
        """Reset all connections and give the port up."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()
        self.reset()

    def _accept(self) -> asyncio.Protocol:
        pair = _Pair(self, self._target)
        self._pairs.add(pair)
        return pair.near

    @property
    def is_open(self) -> bool:
        """Whether it takes connections."""
        return self._server is not None

    def ended(self, pair: _Pair) -> None:
        """A connection is over."""
        self._pairs.discard(pair)


class _Pair:
    """Both ends of one connection."""

    def __init__(self, relay: Relay, target: Callable[[], tuple[str, int]]) -> None:
        self._relay = relay
        self._target = target
        self.near = _End(self)
        self.far = _End(self)
        self.near.other, self.far.other = self.far, self.near
        self._connecting: asyncio.Task[None] | None = None
        self._aborted = False

    @property
    def held(self) -> bool:
        """Whether nothing may pass."""
        return self._relay.held

    @property
    def is_over(self) -> bool:
        """Whether the connection is to be no more."""
        return self._aborted or not self._relay.is_open

    def connect(self) -> None:
        """Reach for the target, unless that has been done or must wait."""
        if self._connecting is None and not self.held and self.near.transport is not None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            host, port = self._target()
            await asyncio.get_running_loop().create_connection(lambda: self.far, host, port)
        except OSError:
            self.abort()

    def steer(self) -> None:
        """Have each end read or not, as things are."""
        self.near.steer()
        self.far.steer()

    def abort(self) -> None:
        """Reset both ends."""
        self._aborted = True
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
        for end in (self.near, self.far):
            if end.transport is not None and not end.transport.is_closing():
                sock = end.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.transport.abort()

    def end_ended(self) -> None:
        """One end is closed; with the other one the connection is over."""
        if self.near.transport is None and self.far.transport is None:
            self._relay.ended(self)


class _End(asyncio.Protocol):
    """One end: what it reads is written to the other."""

    other: _End

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self.transport: asyncio.Transport | None = None
        self._other_is_full = False
        self._reads = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._pair.is_over:  # it was taken in the turn in which all were reset
            self._pair.abort()
            return
        self._pair.steer()
        self._pair.connect()

    def data_received(self, data: bytes) -> None:
        assert self.other.transport is not None  # reading begins when the other end is there
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        self.other._other_is_full = True
        self.other.steer()

    def resume_writing(self) -> None:
        self.other._other_is_full = False
        self.other.steer()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if error is not None:
            self._pair.abort()
        elif self.other.transport is not None:
            self.other.transport.close()
        self._pair.end_ended()

    def steer(self) -> None:
        """Read if there is somewhere to write it to."""
        if self.transport is None or self.transport.is_closing():
            return
        reads = not (self._pair.held or self._other_is_full or self.other.transport is None)
        if reads != self._reads:
            self._reads = reads
            if reads:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen: who connects is refused."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    return made
