"""Appends to a partition whose topic has its own ``compression.type``.

A batch in another codec is rewritten in a thread, because the codecs release the GIL and take milliseconds
for large batches. Rule: the partition's appends happen in the order in which they came, so whatever comes
after a rewrite waits behind it, also a batch that needs none. All partitions together rewrite ``REWRITES_MAX``
batches at once, because each may stand in memory decompressed, at up to ``MAX_DECOMPRESSED_BYTES``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.log.log import AppendInfo
    from ottla.records.batch import CompressionType

REWRITES_MAX = 2

Append = Callable[[memoryview], "AppendInfo"]


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


class Recompression:
    """The queue of one partition."""

    __slots__ = ("_queue", "_rewrites", "_running")

    def __init__(self, rewrites: asyncio.Semaphore) -> None:
        """``rewrites`` is shared by all partitions."""
        self._rewrites = rewrites
        self._queue: deque[
            tuple[memoryview, CompressionType | None, Append, asyncio.Future[AppendInfo]]
        ] = deque()
        self._running: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether appends must queue."""
        return self._running is not None

    def append(
        self, records: memoryview, codec: CompressionType | None, append: Append
    ) -> asyncio.Future[AppendInfo]:
        """Rewrite ``records`` if ``codec`` says so, and append them in their turn."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AppendInfo] = loop.create_future()
        self._queue.append((records, codec, append, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._queue:
                records, codec, append, future = self._queue.popleft()
                try:
                    if codec is not None:
                        async with self._rewrites:
                            records = await asyncio.to_thread(self._rewrite, records, codec)
                    info = append(records)
                except Exception as error:  # the request's handler tells a refusal from a bug
                    future.set_exception(error)
                else:
                    future.set_result(info)
        finally:
            self._running = None

    @staticmethod
    def _rewrite(records: memoryview, codec: CompressionType) -> memoryview:
        from ottla.records.batch import read_header, verify_crc
        from ottla.records.compression import recompress

        verify_crc(records, read_header(records))
        return memoryview(recompress(records, codec))
