"""The way out of a connection: answers as chunks, and the record bytes that still lie in files.

Rules:
- One writer a connection, in order: while a file region is on its way nothing else is written.
- Small pieces are joined into one write; a large one is never copied by us.
- A region below ``SENDFILE_BYTES_MIN`` that is in the page cache is read; a larger one goes by ``sendfile``
  where the transport can; one that is not in the page cache is read in a thread, in pieces.
- Every region is closed, whatever happens to the connection.
- What waits here is bounded: ``ready`` is false while the peer does not read, and nobody puts anything then.

The loop's ``sendfile`` (CPython 3.11) has traps. It moves the file's own position; while it runs the transport
must not be written to, closed or aborted (its write handler would be lost, or its callback would fail); a
short file ends it early without an error. So: nobody closes the transport while ``sending``; ``abort`` cancels
the sending first; and a count that is short cuts the connection, for the length has been promised already.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ottla.capabilities import sendfile
from ottla.wire.regions import FileRegion

JOIN_BYTES_MAX = 32 * 1024
"""A piece above this is written by itself; smaller ones are joined."""

FLUSH_BYTES = 128 * 1024
"""Joined pieces are written at the latest when there are so many bytes of them."""

SENDFILE_BYTES_MIN = 64 * 1024
"""A smaller region is read and joined with what surrounds it: ``sendfile`` costs a task and two wake-ups."""

PIECE_BYTES_MIN = 64 * 1024
PIECE_BYTES = 256 * 1024
PIECE_BYTES_MAX = 1024 * 1024
"""How much of a region is sent or read at once: more to a peer that reads fast, less to a slow one.

A peer that does not take a piece in the stall time is cut off, so that a piece should take seconds at most.
"""

PIECE_S_MAX = 4.0
"""A piece that takes longer is followed by a smaller one."""

_BYTES = frozenset((bytes, bytearray, memoryview))


def close_regions(chunks: Any) -> None:
    """Close every file region among ``chunks``."""
    for chunk in chunks:
        if type(chunk) not in _BYTES:
            chunk.close()


def _read(region: FileRegion, offset: int, size: int) -> bytes:
    data = region.read(offset, size)
    if len(data) != size:
        raise EOFError(f"the file ends {size - len(data)} bytes before the region does")
    return data


def _has_descriptor(region: FileRegion) -> bool:
    try:
        return region.fileno() >= 0
    except OSError:  # a disk in memory; or an error, which reading reports
        return False


class Outbox:
    """Writes to one transport. ``on_ready`` is called when ``ready`` has become true again."""

    __slots__ = (
        "_buffer_bytes",
        "_buffered_last",
        "_drained",
        "_loop",
        "_moved",
        "_on_ready",
        "_out",
        "_out_bytes",
        "_socket",
        "_task",
        "_transport",
        "_writable",
    )

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        loop: asyncio.AbstractEventLoop,
        buffer_bytes: int,
        on_ready: Callable[[BaseException | None], None],
    ) -> None:
        """``buffer_bytes`` may wait in the transport before ``ready`` is false.

        ``on_ready`` gets the error if a region could not be sent: the connection is useless then."""
        transport.set_write_buffer_limits(high=buffer_bytes)
        self._transport = transport
        self._buffer_bytes = buffer_bytes
        self._loop = loop
        self._on_ready = on_ready
        self._out: list[Any] = []
        self._out_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._writable = True
        self._drained: asyncio.Future[None] | None = None
        sock = transport.get_extra_info("socket")
        plain = sock is not None and transport.get_extra_info("sslcontext") is None
        self._socket: int = sock.fileno() if plain and sendfile is not None else -1
        self._moved = False
        self._buffered_last = 0

    @property
    def ready(self) -> bool:
        """Whether an answer may be put now."""
        return self._writable and self._task is None

    @property
    def sending(self) -> bool:
        """Whether a file region is on its way; the transport must not be touched then."""
        return self._task is not None

    @property
    def owes(self) -> bool:
        """Whether bytes wait for the peer to read."""
        return self._task is not None or self._transport.get_write_buffer_size() > 0

    def put(self, chunks: list[Any]) -> None:
        """Add one answer, with its length before it. Call ``flush`` when there is nothing more to put.

        Raises ``OSError`` or ``EOFError`` if a file cannot be read; the connection is useless then.
        """
        size = sum(map(len, chunks))
        self._out.append(size.to_bytes(4, "big"))
        if len(chunks) == 1:
            self._out.append(chunks[0])
            self._out_bytes += size + 4
        else:
            for index, chunk in enumerate(chunks):
                piece = chunk if type(chunk) in _BYTES else self._read_small(chunk)
                if piece is not None:
                    self._out.append(piece)
                    self._out_bytes += len(piece)
                    continue
                sent = self._send_at_once(chunk)
                if sent < len(chunk):
                    self._start_sending(chunks[index:], sent)
                    return
                chunk.close()
        if self._out_bytes > FLUSH_BYTES:
            self.flush()

    def put_encoded(self, answers: bytes) -> None:
        """Add answers that have their lengths before them."""
        self._out.append(answers)
        self._out_bytes += len(answers)
        if self._out_bytes > FLUSH_BYTES:
            self.flush()

    def write(self, answers: bytes) -> None:
        """Write, after what was put, small answers that have their lengths before them."""
        if self._out:
            self.put_encoded(answers)
            self.flush()
        else:
            self._transport.write(answers)

    def flush(self) -> None:
        """Write what was put."""
        out = self._out
        if not out:
            return
        self._out = []
        self._out_bytes = 0
        write = self._transport.write
        run: list[Any] = []
        for piece in out:
            if len(piece) > JOIN_BYTES_MAX:
                if run:
                    write(b"".join(run))
                    run = []
                write(memoryview(piece))
            else:
                run.append(piece)
        if run:
            write(run[0] if len(run) == 1 else b"".join(run))

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._writable = False

    def resume(self) -> None:
        """The transport's buffer has room again."""
        self._writable = True
        self._moved = True
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None
        elif self._task is None:
            self._on_ready(None)

    def progressed(self) -> bool:
        """Whether the peer has taken something since the last call, or had nothing to take."""
        buffered = self._transport.get_write_buffer_size()
        moved = self._moved or buffered < self._buffered_last
        owes = buffered > 0 or self._task is not None
        self._buffered_last = buffered
        self._moved = False
        return moved or not owes

    def abort(self) -> None:
        """Cut the connection now, after the sending has let go of the transport."""
        self._out.clear()
        if self._task is not None:
            self._task.cancel()  # _send aborts the transport when it has been unwound
        else:
            self._transport.abort()

    def lost(self) -> None:
        """The transport is gone."""
        self._out.clear()
        if self._task is not None:
            # Not at once: the transport is about to fail the very future that the task may wait for.
            self._loop.call_soon(self._task.cancel)

    def _read_small(self, region: FileRegion) -> bytes | None:
        """The bytes of a region that is small and at hand, or ``None``."""
        if len(region) >= SENDFILE_BYTES_MIN or not region.is_resident():
            return None
        try:
            return _read(region, 0, len(region))
        finally:
            region.close()

    def _send_at_once(self, region: FileRegion) -> int:
        """How many of the region's bytes the socket took here and now, as it does in a ``write``."""
        self.flush()
        if self._socket < 0 or self._transport.get_write_buffer_size() or not region.is_resident():
            return 0
        assert sendfile is not None  # or there would be no socket
        try:
            return sendfile(self._socket, region.fileno(), region.position, len(region))
        except OSError:  # would block; or an error, which the next attempt reports
            return 0

    def _start_sending(self, rest: list[Any], sent: int) -> None:
        task = self._loop.create_task(self._send(deque(rest), sent))
        self._task = task
        # A task that is cancelled before its first step never runs its own finally.
        task.add_done_callback(lambda done: self._sent(done, rest))

    def _sent(self, task: asyncio.Task[None], chunks: list[Any]) -> None:
        close_regions(chunks)
        self._task = None
        if task.cancelled():
            self._transport.abort()
        else:
            self._on_ready(task.exception())

    async def _send(self, chunks: deque[Any], sent: int) -> None:
        while chunks:
            if self._transport.is_closing():
                raise ConnectionAbortedError("the connection was closed while an answer was sent")
            chunk = chunks.popleft()
            if type(chunk) in _BYTES:
                self._transport.write(chunk)
            else:
                await self._send_region(chunk, sent)
                sent = 0
                chunk.close()
            self._moved = True
            await self._drain()

    async def _drain(self) -> None:
        if not self._writable:
            self._drained = self._loop.create_future()
            await self._drained

    async def _send_region(self, region: FileRegion, offset: int) -> None:
        resident = region.is_resident()
        direct = resident and _has_descriptor(region)
        piece = PIECE_BYTES
        while offset < len(region):
            if self._transport.is_closing():  # else the rest would be read for nobody, in one go
                raise ConnectionAbortedError("the connection was closed while an answer was sent")
            begin = self._loop.time()
            size = min(len(region) - offset, piece)
            if direct and self._socket >= 0:
                direct = await self._send_file(region, offset, size)
                if not direct:
                    continue
            else:
                if resident:
                    data = _read(region, offset, size)
                else:
                    data = await self._loop.run_in_executor(None, _read, region, offset, size)
                self._transport.write(data)
                await self._drain()
            self._moved = True
            offset += size
            if self._loop.time() - begin > PIECE_S_MAX:
                piece = max(piece // 4, PIECE_BYTES_MIN)
            else:
                piece = min(piece * 2, PIECE_BYTES_MAX)

    async def _send_file(self, region: FileRegion, offset: int, size: int) -> bool:
        """False if the transport or the file cannot do it and nothing has been sent."""
        if self._transport.get_write_buffer_size():
            # Not left to the loop's sendfile: its way to wait fails twice when the peer hangs up meanwhile.
            self._transport.set_write_buffer_limits(high=0)
            await self._drain()
            self._transport.set_write_buffer_limits(high=self._buffer_bytes)
        if self._transport.is_closing():
            raise ConnectionAbortedError("the connection was closed while an answer was sent")
        try:
            sent = await self._loop.sendfile(
                self._transport,
                region,  # type: ignore[arg-type]  # a fileno() is all that it wants
                region.position + offset,
                size,
                fallback=False,
            )
        except (asyncio.SendfileNotAvailableError, RuntimeError):
            return False
        if sent != size:
            raise EOFError(f"the file ends {size - sent} bytes before the region does")
        return True
