"""A transport for an accepted connection without TLS: asyncio's rules, on ``readiness`` in the place of its selector.

What a protocol may rely on is what it may with asyncio's own: ``connection_made`` first and ``connection_lost`` last, the
latter in a turn of the loop of its own; bytes are written at once as far as the socket takes them, and else kept and
``pause_writing`` called above the limit; ``close`` lets go out what was written, ``abort`` does not; whose
``eof_received`` is true is not closed but reads no more, and meets the end again if it is resumed; an exception in the
protocol ends the connection and is told to the loop's exception handler.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from ottla.capabilities import POLL_IN, POLL_OUT
from ottla.network.readiness import Readable

if TYPE_CHECKING:
    from ottla.network.readiness import Readiness

WRITE_BUFFER_BYTES = 64 * 1024
"""How much may wait to be written before the protocol is paused, unless it says so itself: as in asyncio."""


class PlainTransport(asyncio.Transport, Readable):
    """One accepted socket."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_descriptor",
        "_high",
        "_loop",
        "_lost",
        "_low",
        "_protocol",
        "_readiness",
        "_reading",
        "_recv_into",
        "_send",
        "_socket",
        "_wanted",
        "_writing_paused",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        readiness: Readiness,
        sock: socket.socket,
        protocol: asyncio.BufferedProtocol,
    ) -> None:
        """Takes the socket, which does not block, and tells the protocol. Raises ``OSError``: the peer has gone."""
        super().__init__(
            {"socket": sock, "sockname": sock.getsockname(), "peername": sock.getpeername()}
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self._readiness = readiness
        self._socket = sock
        self._descriptor = sock.fileno()
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._protocol: Any = protocol
        self._buffer = bytearray()
        self._low, self._high = WRITE_BUFFER_BYTES // 4, WRITE_BUFFER_BYTES
        self._reading = True
        self._writing_paused = False
        self._closing = False
        self._lost = False
        self._wanted = POLL_IN
        readiness.watch(self._descriptor, POLL_IN, 0, self)
        protocol.connection_made(self)

    # -- reading

    def is_reading(self) -> bool:
        """Whether the protocol is given what comes."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Give the protocol nothing more."""
        self._reading = False
        self._watch()

    def resume_reading(self) -> None:
        """Give it what comes again."""
        self._reading = True
        self._watch()

    def read_ready(self) -> None:
        """Read once."""
        if not self._reading or self._closing:
            return
        try:
            buffer = self._protocol.get_buffer(-1)
            try:
                count = self._recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._end(error)
                return
            if count:
                self._protocol.buffer_updated(count)
                return
            if not len(buffer):
                raise RuntimeError("there is no room to read to")
            if self._protocol.eof_received():
                self.pause_reading()
                return
        except Exception as error:
            self._failed(error, "reading from a connection failed")
            return
        self.close()

    # -- writing

    def write(self, data: Any) -> None:
        """Give the socket what it takes, and keep the rest until it takes more."""
        if self._lost or not data:
            return
        if not self._buffer:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._end(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self._buffer += data
        self._watch()
        if len(self._buffer) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def write_ready(self) -> None:
        """Write what was kept, as far as the socket takes it."""
        if self._lost or not self._buffer:
            return
        try:
            try:
                sent = self._send(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._end(error)
                return
            del self._buffer[:sent]
            if self._writing_paused and len(self._buffer) <= self._low:
                self._writing_paused = False
                self._protocol.resume_writing()
        except Exception as error:
            self._failed(error, "writing to a connection failed")
            return
        self._watch()
        if self._closing and not self._buffer:
            self._end(None)

    def can_write_eof(self) -> bool:
        """It has no use for that."""
        return False

    def get_write_buffer_size(self) -> int:
        """How many bytes the socket has not taken yet."""
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Below how many bytes the protocol is resumed, and above how many it is paused."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pause the protocol above ``high`` bytes that wait, resume it at ``low``: a quarter of it."""
        if high is None:
            high = WRITE_BUFFER_BYTES if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    # -- the end

    def is_closing(self) -> bool:
        """Whether it is closed, or will be once everything is written."""
        return self._closing

    def close(self) -> None:
        """Read no more, and end when everything is written."""
        if self._closing:
            return
        self._closing = True
        self._watch()
        if not self._buffer:
            self._end(None)

    def abort(self) -> None:
        """End now."""
        self._end(None)

    def _failed(self, error: Exception, what: str) -> None:
        """An error of ours; that a peer has gone is none."""
        self._loop.call_exception_handler(
            {"message": what, "exception": error, "transport": self, "protocol": self._protocol}
        )
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._buffer.clear()
            self._watch()
            self._loop.call_soon(self._gone, error)

    def _gone(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()
            self._protocol = None  # who holds one of the two holds not both

    def _watch(self) -> None:
        """Have it said what there is to be waited for."""
        wanted = POLL_IN if self._reading and not self._closing else 0
        if self._buffer:
            wanted |= POLL_OUT
        if wanted != self._wanted:
            before, self._wanted = self._wanted, wanted
            try:
                self._readiness.watch(self._descriptor, wanted, before, self)
            except OSError as error:  # who hears of nothing is not left to wait for it
                self._wanted = before
                self._failed(error, "a connection cannot be watched")
