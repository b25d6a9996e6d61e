"""A topic in which the broker keeps its own state, as the coordinators see it.

Rules:
- What is appended goes in as one batch with acks=all, so that it is as safe as a client's best.
- Reading it back takes what is committed in steps of ``STEP_BYTES``, giving the loop a turn after each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.replication.partition import Partition
    from ottla.replication.replicas import Replicas

log = logger(__name__)

STEP_BYTES = 256 * 1024
DECOMPRESSED_BYTES_MAX = 64 * 1024 * 1024

LoadedRecord = tuple[bytes | None, bytes | None, int, int]
"""Key, value, offset and timestamp in milliseconds."""


class _Commitment:
    """Turns a partition's waiter into a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    def committed(self, token: object) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def failed(self, token: object, code: ErrorCode) -> None:
        if not self.future.done():
            self.future.set_exception(KafkaError(code))


class InternalLog:
    """The partitions of one internal topic that this broker leads."""

    def __init__(self, replicas: Replicas, topic: str) -> None:
        self._replicas = replicas
        self._topic = topic

    def append(
        self, partition: int, records: Sequence[tuple[bytes, bytes | None]], now_ms: int
    ) -> int:
        """Append ``records`` as one batch; returns the offset after it. Raises ``KafkaError``."""
        from ottla.records.builder import build_batch

        batch = build_batch([(now_ms, key, value, ()) for key, value in records])
        appended = self._replicas.leader_of(self._topic, partition).append_as_leader(
            memoryview(batch), now_ms, required_acks=-1, from_client=False
        )
        assert not isinstance(appended, asyncio.Future)  # only a client's batch is rewritten
        return appended.last_offset + 1

    def when_committed(self, partition: int, end_offset: int) -> asyncio.Future[None]:
        """A future that is done when everything below ``end_offset`` is committed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            leader = self._replicas.leader_of(self._topic, partition)
            if leader.when_committed(end_offset, _Commitment(future), None):
                future.set_result(None)
        except KafkaError as error:
            future.set_exception(error)
        return future

    async def read(self, partition: int) -> AsyncIterator[Sequence[LoadedRecord]]:
        """Every record from the log's start to its end as of now. Raises ``KafkaError``."""
        leader = self._replicas.leader_of(self._topic, partition)
        offset, end_offset = leader.log.log_start_offset, leader.log.log_end_offset
        while offset < end_offset:
            chunk, offset = self._read_step(leader, offset, end_offset)
            yield chunk
            await asyncio.sleep(0)

    def _read_step(
        self, leader: Partition, offset: int, end_offset: int
    ) -> tuple[list[LoadedRecord], int]:
        from ottla.records.batch import iter_batches
        from ottla.records.codec import decode_batch

        found = leader.log.read(offset, STEP_BYTES, end_offset, at_least_one=True)
        chunk: list[LoadedRecord] = []
        next_offset = offset
        try:
            pieces = [memoryview(region.read()) for region in found.regions]
        finally:
            for region in found.regions:
                region.close()
        for data in pieces:
            for position, header in iter_batches(data):
                next_offset = header.last_offset + 1
                if header.is_control:
                    continue
                batch = data[position : position + header.size_bytes]
                chunk.extend(
                    (record.key, record.value, record.offset, record.timestamp_ms)
                    for record in decode_batch(batch, max_decompressed_bytes=DECOMPRESSED_BYTES_MAX)
                    if record.offset >= offset
                )
        if next_offset <= offset:  # compaction may leave nothing up to the end
            next_offset = end_offset
        return chunk, next_offset
