"""Appends of batches that have to be unpacked first, off the loop and bounded.

A topic with its own ``compression.type`` has batches in another codec rewritten; a compacted topic has the keys
of a batch looked at. Both are done in a thread as far as the codecs go, because they release the GIL and take
milliseconds for large batches; the keys in steps between which the loop does other things. Rules:

- The partition's appends happen in the order in which they came: whatever comes after a batch that is unpacked
  waits behind it, also one that needs none of it.
- All partitions together unpack ``UNPACKED_AT_ONCE`` batches, each to at most ``UNPACKED_BYTES_MAX``; what that may
  take is counted in the budget for requests meanwhile, so that others are read later where memory is short.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ottla.errors import KafkaError

if TYPE_CHECKING:
    from ottla.log.log import AppendInfo
    from ottla.records.batch import CompressionType

UNPACKED_AT_ONCE = 2

UNPACKED_BYTES_MAX = 64 << 20
"""A batch that would be larger is refused (MESSAGE_TOO_LARGE)."""

_RATIO = 1032
"""What deflate's densest code makes of a byte. Others go beyond it, but then up to the bound at once."""

Append = Callable[[memoryview], "AppendInfo"]


class Budget(Protocol):
    """What counts the memory: the network's budget for requests."""

    def take(self, size: int) -> None:
        """Count ``size`` bytes, whether they are free or not."""
        ...

    def release(self, size: int) -> None:
        """Give them back."""
        ...


class Unpacking:
    """What all partitions of a broker share: how much they unpack at once. ``budget`` may be set later."""

    __slots__ = ("_slots", "budget")

    def __init__(self, at_once: int = UNPACKED_AT_ONCE) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self.budget: Budget | None = None

    @asynccontextmanager
    async def room_for(self, records: memoryview) -> AsyncIterator[None]:
        """Wait for a turn, and count what ``records`` may unpack to."""
        size = min(UNPACKED_BYTES_MAX, _RATIO * len(records))
        async with self._slots:
            budget = self.budget
            if budget is not None:
                budget.take(size)
            try:
                yield
            finally:
                if budget is not None:
                    budget.release(size)


def wanted_codec(records: memoryview, compression_type: str) -> CompressionType | None:
    """The codec that a batch must be rewritten with, or None if it may stay.

    Raises ``KafkaError`` (CORRUPT_MESSAGE) for what is not a batch.
    """
    if compression_type == "producer":
        return None
    from ottla.records.batch import CompressionType, read_header

    name = "NONE" if compression_type == "uncompressed" else compression_type.upper()
    wanted = CompressionType[name]
    return None if read_header(records).compression == wanted else wanted


class _Queued(NamedTuple):
    """An append in its place: what has to be done to the batch before, and what to do with it then."""

    records: memoryview
    codec: CompressionType | None
    keys: bool
    append: Append
    future: asyncio.Future[AppendInfo]


class Recompression:
    """The queue of one partition."""

    __slots__ = ("_queue", "_unpacking", "running")

    def __init__(self, unpacking: Unpacking) -> None:
        """``unpacking`` is shared by all partitions."""
        self._unpacking = unpacking
        self._queue: deque[_Queued] = deque()
        self.running: asyncio.Task[None] | None = None
        """What works on the queue; while there is such, appends must queue."""

    def append(
        self, records: memoryview, codec: CompressionType | None, append: Append, *, keys: bool
    ) -> asyncio.Future[AppendInfo]:
        """Rewrite ``records`` if ``codec`` says so, look at the ``keys``, and append them in their turn."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AppendInfo] = loop.create_future()
        self._queue.append(_Queued(records, codec, keys, append, future))
        if self.running is None:
            self.running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._queue:
                queued = self._queue.popleft()
                try:
                    info = queued.append(await self._unpacked(queued))
                except KafkaError as error:
                    # Without its frames, which hold what was unpacked until the collector comes by.
                    queued.future.set_exception(error.with_traceback(None))
                except Exception as error:  # a bug, which the request's handler logs
                    queued.future.set_exception(error)
                else:
                    queued.future.set_result(info)
        finally:
            self.running = None

    async def _unpacked(self, queued: _Queued) -> memoryview:
        records, codec = queued.records, queued.codec
        if codec is None and not queued.keys:
            return records
        async with self._unpacking.room_for(records):
            if queued.keys:
                await self._check_keys(records)
            if codec is not None:
                records = await asyncio.to_thread(self._rewrite, records, codec)
        return records

    @staticmethod
    async def _check_keys(records: memoryview) -> None:
        from ottla.log.validation import check_keys_in_steps

        steps = check_keys_in_steps(records)
        done = object()
        if await asyncio.to_thread(next, steps, done) is not done:
            for _ in steps:
                await asyncio.sleep(0)

    @staticmethod
    def _rewrite(records: memoryview, codec: CompressionType) -> memoryview:
        from ottla.records.batch import read_header, verify_crc
        from ottla.records.compression import recompress

        verify_crc(records, read_header(records))
        return memoryview(recompress(records, codec, max_decompressed_bytes=UNPACKED_BYTES_MAX))
