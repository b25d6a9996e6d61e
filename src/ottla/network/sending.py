"""How regions of files reach a socket: given by who has them, or by a thread that gives while the event loop goes on.

Rules:
- ``give`` reads what the page cache holds, and writes it with what stands before and behind it, until the socket is full,
  or the disk would have to be read, or a turn's worth is out. It tells where it ended; it never waits.
- The thread has one answer at a time. It gets one only while several connections read large answers in turn: then
  the loop makes and sends another's meanwhile. A single one is sent by the loop, which is sooner.
- Nobody else touches the connection's way out meanwhile. A descriptor is closed by who owns it only after ``Job.withdraw``:
  its number may be another connection's in the next moment.
- The thread wakes the loop only where there is something left to be done, something failed, or somebody waits for the end
  (``Job.is_over``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.capabilities import fresh_memory, processors
from ottla.logs import logger

if TYPE_CHECKING:
    import asyncio

log = logger(__name__)

JOIN_BYTES_MAX = 32 * 1024
"""A piece above this is written by itself; smaller ones are joined."""

TAIL_CHUNKS_MAX = 4
"""So many pieces at the most may stand behind the last region to go with it."""

SMALL_BYTES_MAX = 64 * 1024
"""A region below this is joined with what surrounds it."""

PIECE_BYTES_MAX = 512 * 1024
"""How much of a region is read and sent at once: what was read is still near the processor when it is sent."""

THREAD_NAME = "ottla-sender"

BYTES = frozenset((bytes, bytearray, memoryview))

Write = Callable[[int, Sequence[Any]], int]


class Given(NamedTuple):
    """Where it ended: ``left`` is still to be written, and then ``chunks[at]`` from ``offset`` on."""

    left: bytes
    at: int
    offset: int


def close_regions(chunks: Any) -> None:
    """Close every file region among ``chunks``, and raise the last ``OSError`` that one has met."""
    failed = None
    for chunk in chunks:
        if type(chunk) not in BYTES:
            try:
                chunk.close()
            except OSError as error:
                failed = error
    if failed is not None:
        raise failed


def region_memory() -> memoryview:
    """What regions are read into; it takes no memory before it is used."""
    return memoryview(fresh_memory(PIECE_BYTES_MAX))


def tail_of(chunks: list[Any], index: int) -> bytes:
    """What follows from ``index`` on, where that is little, and no region: it goes with the region before it."""
    if len(chunks) - index > TAIL_CHUNKS_MAX:
        return b""
    rest = chunks[index:]
    if all(type(chunk) in BYTES for chunk in rest) and sum(map(len, rest)) <= JOIN_BYTES_MAX:
        return b"".join(rest)
    return b""


def read_small(region: Any, scratch: memoryview) -> bytes | None:
    """The bytes of a region that is small and at hand, or ``None``."""
    size = len(region)
    if size >= SMALL_BYTES_MAX:
        return None
    piece = scratch[:size]
    return bytes(piece) if region.read_resident(0, piece) == size else None


def give(
    write: Write, descriptor: int, head: bytes, chunks: list[Any], scratch: memoryview, most: int
) -> Given:
    """Give the socket ``head`` and then ``chunks``, about ``most`` bytes of them. Closes nothing.

    Raises ``OSError`` where a file cannot be read; an error of the socket's counts as one that is full, for
    whoever writes the rest meets it, too."""
    for index, chunk in enumerate(chunks):
        small = chunk if type(chunk) in BYTES else read_small(chunk, scratch)
        if small is not None:
            if len(head) + len(small) > JOIN_BYTES_MAX:
                return Given(head, index, 0)
            head += small
            continue
        offset, size = 0, len(chunk)
        while offset < size:
            piece = scratch[: size - offset]
            read = chunk.read_resident(offset, piece) if most > 0 else 0
            if not read:
                return Given(head, index, offset)
            most -= read
            tail = tail_of(chunks, index + 1) if offset + read == size else b""
            try:
                taken = write(descriptor, (head, piece[:read], tail)) - len(head)
            except OSError:
                taken = -len(head)
            if taken < 0:
                return Given(head[taken:], index, offset)
            head = b""
            offset += min(taken, read)
            if taken < read:
                return Given(b"", index, offset)
            if tail:
                return Given(tail[taken - read :], len(chunks), 0)
    return Given(head, len(chunks), 0)


class Job:
    """An answer that the thread gives to a socket."""

    __slots__ = (
        "_helper",
        "_loop",
        "_notify",
        "_withdrawn",
        "chunks",
        "descriptor",
        "error",
        "given",
        "head",
        "is_over",
        "is_wanted",
        "most",
        "write",
    )

    def __init__(
        self,
        write: Write,
        descriptor: int,
        head: bytes,
        chunks: list[Any],
        most: int,
        notify: Callable[[], None],
    ) -> None:
        """As ``give``. ``notify`` is called in the loop when there is something left, it failed, or ``is_wanted`` was set."""
        self.write = write
        self.descriptor = descriptor
        self.head = head
        self.chunks = chunks
        self.most = most
        self.given: Given | None = None
        self.error: Exception | None = None
        self.is_over = False
        self.is_wanted = False
        """Somebody waits for the end; to be set before ``is_over`` is looked at."""
        self._notify = notify
        self._withdrawn = False
        self._helper: Helper
        self._loop: asyncio.AbstractEventLoop

    def run(self, scratch: memoryview) -> None:
        """Do it, in the thread."""
        if self._withdrawn:
            self.is_over = True
            return
        try:
            self.given = give(
                self.write, self.descriptor, self.head, self.chunks, scratch, self.most
            )
            if self.is_done:
                close_regions(self.chunks)
        except Exception as error:
            self.error = error
        self.is_over = True
        if self.is_wanted or self.error is not None or not self.is_done:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._notify)

    @property
    def is_done(self) -> bool:
        """Whether all of it is out."""
        return self.given is not None and not self.given.left and self.given.at == len(self.chunks)

    def withdraw(self) -> None:
        """Return when the thread does not use the descriptor any more; it waits for a write that does not wait."""
        self._withdrawn = True
        self._helper.wait(self)


class Helper:
    """The thread. ``offer`` and ``close`` are for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at_work = Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._busy = False
        self._last = 0
        self._may_start = processors() > 1

    def offer(self, who: int, job: Job) -> bool:
        """Whether the thread does the job; if not, it is the caller's. ``who`` tells one connection from another."""
        if not self._is_another(who) or self._busy or not self._has_thread():
            return False
        self._busy = True
        job._helper = self
        job._loop = self._loop
        self._jobs.put(job)
        return True

    def _has_thread(self) -> bool:
        """Whether there is one, now that it is wanted. Where none can be had, none is asked for again."""
        if self._thread is None and self._may_start:
            try:
                thread = Thread(
                    target=self._work, args=(region_memory(),), name=THREAD_NAME, daemon=True
                )
                thread.start()
            except (RuntimeError, OSError, MemoryError) as error:
                self._may_start = False
                log.warning("no thread to send with: the event loop does it", reason=str(error))
            else:
                self._thread = thread
        return self._thread is not None

    def _is_another(self, who: int) -> bool:
        """Whether the large answer before this one was another connection's."""
        last, self._last = self._last, who
        return last not in (0, who)

    def wait(self, job: Job) -> None:
        """Wait until the job is over, or will not be begun."""
        if not job.is_over:
            with self._at_work:
                pass

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self, scratch: memoryview) -> None:
        get = self._jobs.get
        while (job := get()) is not None:
            with self._at_work:
                job.run(scratch)
            self._busy = False
            del job


class Sending:
    """What the outboxes of one event loop share: the memory that regions are read into, and the thread."""

    __slots__ = ("helper", "scratch")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.scratch = region_memory()
        self.helper = Helper(loop)
