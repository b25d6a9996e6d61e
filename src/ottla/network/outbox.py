"""The way out of a connection: answers as chunks, and the record bytes that still lie in files.

Rules:
- One writer a connection, in order: while file regions are on their way nothing else is written.
- Small pieces are joined into one write; a large one is never copied by us.
- A region goes through memory that all connections of the loop share: what the page cache holds of it is read there,
  up to a megabyte, and given to the socket in one call, together with what stands before it in the answer. What the
  socket does not take is read again when it takes more: a slow peer costs no memory.
- A small region is read and joined with what surrounds it. What is not in the page cache is read in a thread, in pieces.
- Many megabytes go in turns: others have theirs in between.
- Every region is closed, whatever happens to the connection.
- What waits here is bounded: ``ready`` is false while the peer does not read, and nobody puts anything then.

Not ``sendfile``: it hands the socket 64 KB at a time, and wakes the peer as often
(docs/decisions/0009-sending-files.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ottla.capabilities import fresh_memory, writev
from ottla.wire.regions import FileRegion

JOIN_BYTES_MAX = 32 * 1024
"""A piece above this is written by itself; smaller ones are joined."""

FLUSH_BYTES = 128 * 1024
"""Joined pieces are written at the latest when there are so many bytes of them."""

TAIL_CHUNKS_MAX = 4
"""So many pieces at the most may stand behind the last region to go with it."""

SMALL_BYTES_MAX = 64 * 1024
"""A region below this is joined with what surrounds it."""

PIECE_BYTES_MIN = 64 * 1024
PIECE_BYTES = 256 * 1024
PIECE_BYTES_MAX = 1024 * 1024
"""How much of a region is sent or read at once: more to a peer that reads fast, less to a slow one.

A peer that does not take a piece in the stall time is cut off, so that a piece should take seconds at most.
"""

TURN_BYTES = 4 * PIECE_BYTES_MAX
"""How much of an answer goes before others have their turn."""

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


def _tail(chunks: list[Any], index: int) -> bytes:
    """What follows from ``index`` on, where that is little, and no region: it goes with the region before it."""
    if len(chunks) - index > TAIL_CHUNKS_MAX:
        return b""
    rest = chunks[index:]
    if all(type(chunk) in _BYTES for chunk in rest) and sum(map(len, rest)) <= JOIN_BYTES_MAX:
        return b"".join(rest)
    return b""


def region_memory() -> memoryview:
    """What the outboxes of one event loop read regions into; it takes no memory before it is used."""
    return memoryview(fresh_memory(PIECE_BYTES_MAX))


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
        "_scratch",
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
        scratch: memoryview,
    ) -> None:
        """``buffer_bytes`` may wait in the transport before ``ready`` is false; ``scratch`` is ``region_memory``.

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
        self._socket: int = sock.fileno() if plain and writev is not None else -1
        self._scratch = scratch
        self._moved = False
        self._buffered_last = 0

    @property
    def ready(self) -> bool:
        """Whether an answer may be put now."""
        return self._writable and self._task is None

    @property
    def sending(self) -> bool:
        """Whether file regions are on their way; nobody else writes to the transport, or closes it, then."""
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
            turn = TURN_BYTES
            for index, chunk in enumerate(chunks):
                piece = chunk if type(chunk) in _BYTES else self._read_small(chunk)
                if piece is not None:
                    self._out.append(piece)
                    self._out_bytes += len(piece)
                    continue
                tail = _tail(chunks, index + 1)
                sent = self._send_at_once(chunk, tail, turn)
                turn -= sent
                if sent < len(chunk):
                    self._start_sending(chunks[index:], sent)
                    return
                chunk.close()
                if tail:
                    self._transport.write(tail[sent - len(chunk) :])
                    return
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
            self._task.cancel()  # _sent aborts the transport
        else:
            self._transport.abort()

    def lost(self) -> None:
        """The transport is gone."""
        self._out.clear()
        if self._task is not None:
            self._task.cancel()

    def _read_small(self, region: FileRegion) -> bytes | None:
        """The bytes of a region that is small and at hand, or ``None``."""
        size = len(region)
        if size >= SMALL_BYTES_MAX:
            return None
        piece = self._scratch[:size]
        if region.read_resident(0, piece) < size:
            return None
        region.close()
        return bytes(piece)

    def _send_at_once(self, region: FileRegion, tail: bytes, most: int) -> int:
        """How many bytes of the region, and of ``tail`` behind it, the socket took here and now; about ``most``."""
        if self._out_bytes > JOIN_BYTES_MAX:
            self.flush()
        sent = 0
        while sent < min(len(region), most) and self._is_direct():
            piece = self._scratch[: len(region) - sent]
            read = region.read_resident(sent, piece)
            is_last = sent + read == len(region)
            taken = self._write_now(piece[:read], tail if is_last else b"") if read else 0
            sent += taken
            if taken < len(piece):
                break
        self.flush()
        return sent

    def _is_direct(self) -> bool:
        """Whether the socket may be written to: the transport has nothing that would come before."""
        return (
            self._socket >= 0
            and not self._transport.get_write_buffer_size()
            and not self._transport.is_closing()
        )

    def _write_now(self, piece: memoryview, tail: bytes = b"") -> int:
        """Give the socket what was put, ``piece`` and ``tail`` behind it; how many bytes of these two it took."""
        assert writev is not None  # or there would be no socket
        head = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        try:
            taken = writev(self._socket, (head, piece, tail)) - len(head)
        except OSError:  # would block; or an error, which the transport meets, too
            taken = -len(head)
        if taken < 0:
            self._transport.write(head[taken:])
            return 0
        return taken

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
        if self._socket >= 0:
            # The socket is written to past the transport, which therefore has to be empty each time.
            self._transport.set_write_buffer_limits(high=0)
            await self._drain()
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
        self._transport.set_write_buffer_limits(high=self._buffer_bytes)

    async def _drain(self) -> None:
        if not self._writable:
            self._drained = self._loop.create_future()
            await self._drained

    async def _send_region(self, region: FileRegion, offset: int) -> None:
        piece = PIECE_BYTES
        while offset < len(region):
            if self._transport.is_closing():  # else the rest would be read for nobody, in one go
                raise ConnectionAbortedError("the connection was closed while an answer was sent")
            begin = self._loop.time()
            sent = await self._send_piece(region, offset, min(len(region) - offset, piece))
            self._moved = True
            offset += sent
            if self._loop.time() - begin > PIECE_S_MAX:
                piece = max(piece // 4, PIECE_BYTES_MIN)
            else:
                piece = min(max(2 * sent, PIECE_BYTES_MIN), PIECE_BYTES_MAX)

    async def _send_piece(self, region: FileRegion, offset: int, size: int) -> int:
        """Send up to ``size`` bytes, and return when there is room for more; how many it were."""
        piece = self._scratch[:size]
        read = region.read_resident(offset, piece)
        if not read:
            data = await self._loop.run_in_executor(None, _read, region, offset, size)
            self._transport.write(data)
            await self._drain()
            return size
        taken = 0
        if self._is_direct():
            taken = self._write_now(piece[:read])
            if taken == read:
                await asyncio.sleep(0)
                return taken
            read = min(read, taken + PIECE_BYTES_MIN)
        self._transport.write(bytes(piece[taken:read]))  # which says when the socket takes more
        await self._drain()
        return read
