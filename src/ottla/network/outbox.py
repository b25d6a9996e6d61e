"""The way out of a connection: answers as chunks, and the record bytes that still lie in files.

Rules:
- One writer a connection, in order: while file regions are on their way nothing else is written.
- Small pieces are joined into one write; a large one is never copied by us.
- A region goes through memory that all connections of the loop share: what the page cache holds of it is read there,
  up to half a megabyte, and given to the socket in one call, together with what stands before it in the answer. What the
  socket does not take is read again when it takes more: a slow peer costs no memory.
- A small region is read and joined with what surrounds it. What is not in the page cache is read in a thread, in pieces.
- Many megabytes go in turns: others have theirs in between.
- Where several connections read much in turn, a thread sends for one of them (``sending``); it is as any other then:
  nothing else is written, and the socket is not closed before the thread has let go of it.
- Every region is closed, whatever happens to the connection.
- What waits here is bounded: ``ready`` is false while the peer does not read, and nobody puts anything then.

Not ``sendfile``: it hands the socket 64 KB at a time, and wakes the peer as often
(docs/decisions/0009-sending-files.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ottla.capabilities import writev
from ottla.network.sending import (
    BYTES,
    JOIN_BYTES_MAX,
    PIECE_BYTES_MAX,
    Given,
    Job,
    Sending,
    close_regions,
    give,
    read_small,
)
from ottla.wire.regions import FileRegion

FLUSH_BYTES = 128 * 1024
"""Joined pieces are written at the latest when there are so many bytes of them."""

PIECE_BYTES_MIN = 64 * 1024
PIECE_BYTES = 256 * 1024
"""How much of a region is sent or read at once: more to a peer that reads fast, less to a slow one.

A peer that does not take a piece in the stall time is cut off, so that a piece should take seconds at most.
"""

TURN_BYTES = 8 * PIECE_BYTES_MAX
"""How much of an answer goes before others have their turn."""

PIECE_S_MAX = 4.0
"""A piece that takes longer is followed by a smaller one."""


def _read(region: FileRegion, offset: int, size: int) -> bytes:
    data = region.read(offset, size)
    if len(data) != size:
        raise EOFError(f"the file ends {size - len(data)} bytes before the region does")
    return data


class Outbox:
    """Writes to one transport. ``on_ready`` is called when ``ready`` has become true again."""

    __slots__ = (
        "_buffer_bytes",
        "_buffered_last",
        "_drained",
        "_job",
        "_loop",
        "_moved",
        "_on_ready",
        "_out",
        "_out_bytes",
        "_sending",
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
        sending: Sending,
    ) -> None:
        """``buffer_bytes`` may wait in the transport before ``ready`` is false; ``sending`` is what the loop's outboxes share.

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
        self._sending = sending
        self._job: Job | None = None
        self._moved = False
        self._buffered_last = 0

    @property
    def ready(self) -> bool:
        """Whether an answer may be put now."""
        return (
            self._writable and self._task is None and (self._job is None or not self._is_helped())
        )

    @property
    def sending(self) -> bool:
        """Whether file regions are on their way; nobody else writes to the transport, or closes it, then."""
        return self._task is not None or (self._job is not None and self._is_helped())

    @property
    def lags(self) -> bool:
        """Whether regions are on their way, and the peer takes them slowly, or the disk gives them so."""
        return self._task is not None

    @property
    def owes(self) -> bool:
        """Whether bytes wait for the peer to read."""
        return (
            self._task is not None
            or (self._job is not None and not self._job.is_over)
            or self._transport.get_write_buffer_size() > 0
        )

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
                piece = chunk
                if type(chunk) not in BYTES:
                    piece = read_small(chunk, self._sending.scratch)
                    if piece is None:
                        self._send_regions(chunks[index:])
                        return
                    chunk.close()
                self._out.append(piece)
                self._out_bytes += len(piece)
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
        self._withdraw()
        if self._task is not None:
            self._task.cancel()  # _sent aborts the transport
        else:
            self._transport.abort()

    def lost(self) -> None:
        """The transport is gone, and its socket closed next."""
        self._out.clear()
        self._withdraw()
        if self._task is not None:
            self._task.cancel()

    def _send_regions(self, rest: list[Any]) -> None:
        """Send what was put, and ``rest``, which begins with a region."""
        if self._out_bytes > JOIN_BYTES_MAX:
            self.flush()
        if writev is None or not self._is_direct():
            self.flush()
            self._start_sending(rest, 0)
            return
        head = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        job = Job(writev, self._socket, head, rest, TURN_BYTES, self._look_again)
        if self._sending.helper.offer(id(self), job):
            self._job = job
            return
        scratch = self._sending.scratch
        self._go_on(rest, give(writev, self._socket, head, rest, scratch, TURN_BYTES))

    def _go_on(self, chunks: list[Any], given: Given) -> None:
        """So much is out; the rest goes as the peer takes it."""
        close_regions(chunks[: given.at])
        if given.left:
            self._transport.write(given.left)
        if given.at < len(chunks):
            self._start_sending(chunks[given.at :], given.offset)

    def _is_helped(self) -> bool:
        """Whether the thread still has an answer of ours; we are called when it has not. Else what it left goes on."""
        job = self._job
        assert job is not None
        if not job.is_over:
            job.is_wanted = True
            if not job.is_over:
                return True
        if job.error is not None:
            return True  # until ``_look_again`` is told
        self._job = None
        if job.given is not None and not job.is_done:
            self._go_on(job.chunks, job.given)
        return self._task is not None

    def _look_again(self) -> None:
        """The thread has done what it could."""
        job = self._job
        if job is None:
            return
        if job.error is not None:
            self._withdraw()
            self._on_ready(job.error)
        elif not self._is_helped():
            self._on_ready(None)

    def _withdraw(self) -> None:
        """Have the thread let go of the socket."""
        job, self._job = self._job, None
        if job is not None:
            job.withdraw()
            with suppress(OSError):  # ``Job.error`` tells of it; and the connection is over
                close_regions(job.chunks)

    def _is_direct(self) -> bool:
        """Whether the socket may be written to: the transport has nothing that would come before."""
        return (
            self._socket >= 0
            and not self._transport.get_write_buffer_size()
            and not self._transport.is_closing()
        )

    def _write_now(self, piece: memoryview) -> int:
        """Give the socket ``piece``; how many bytes of it it took."""
        assert writev is not None  # or there would be no socket
        try:
            return writev(self._socket, (piece,))
        except OSError:  # would block; or an error, which the transport meets, too
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
        if self._socket >= 0:
            # The socket is written to past the transport, which therefore has to be empty each time.
            self._transport.set_write_buffer_limits(high=0)
            await self._drain()
        while chunks:
            if self._transport.is_closing():
                raise ConnectionAbortedError("the connection was closed while an answer was sent")
            chunk = chunks.popleft()
            if type(chunk) in BYTES:
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
        piece = self._sending.scratch[:size]
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
