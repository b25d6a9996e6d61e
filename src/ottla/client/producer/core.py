"""What the asynchronous and the synchronous producer have in common.

``try_append`` is the path of every record: short, under the lock, never waiting. Only when it says no
(unknown topic, no room) the caller waits in ``make_ready`` and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any

from ottla.client.cluster import Cluster
from ottla.client.dice import dice
from ottla.client.errors import BufferFull, RecordTooLarge, RequestTimeout
from ottla.client.partitioner import KeyPartitioner
from ottla.client.producer.accumulator import (
    HEADER_OVERHEAD_BYTES,
    RECORD_OVERHEAD_BYTES,
    Accumulator,
)
from ottla.client.producer.batch import NO_HEADERS, Batch, OnDelivery
from ottla.client.producer.sender import Sender, now_ms, run_calls
from ottla.client.producer.settings import ProducerSettings
from ottla.client.serializers import Serializer, to_bytes
from ottla.client.settings import ConnectionSettings
from ottla.client.types import Header
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

log = logger(__name__)

_PERMANENT = frozenset(
    {
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_TIMESTAMP_END_MS = 2**63

Headers = Sequence[tuple[str, bytes | str | None]] | dict[str, bytes | str | None]


class ProducerCore:
    """Records in on any thread (under ``lock``), everything else on one loop."""

    def __init__(self, connection: ConnectionSettings, settings: ProducerSettings) -> None:
        self.settings = settings
        self.cluster = Cluster(connection)
        self.lock = threading.Lock()
        self.signal: Callable[[], None] = self.wake
        """Wakes the sender; replaced where records come from another thread."""
        self.accumulator = Accumulator(
            settings.limits, lambda: self.signal(), dice.randrange, now_ms
        )
        self._sender = Sender(self.cluster, self.accumulator, self.lock, settings)
        self._task: asyncio.Task[None] | None = None
        self._room: list[asyncio.Future[None]] = []
        self._serialize_key = settings.key_serializer
        self._serialize_value = settings.value_serializer
        self._partitioner = settings.partitioner
        self._own_partitioner = not isinstance(settings.partitioner, KeyPartitioner)
        self._largest = min(settings.limits.max_request_size, settings.limits.buffer_memory)
        self._buffer_memory = settings.limits.buffer_memory
        self.closed = False

    # Lifetime, on the loop

    async def start(self) -> None:
        """Begin to send."""
        if self._task is None and not self.closed:
            self.cluster.on_update.append(self._metadata_changed)
            self.cluster.start()
            self._task = asyncio.get_running_loop().create_task(self._sender.run())

    async def flush(self, timeout: float | None) -> None:
        """Wait until all records sent so far are settled; ``RequestTimeout`` after ``timeout`` seconds."""
        with self.lock:
            batches = self.accumulator.begin_flush()
            left = len(batches)
            settled = asyncio.get_running_loop().create_future()

            def one_done() -> None:
                nonlocal left
                left -= 1
                if not left and not settled.done():
                    settled.set_result(None)

            for batch in batches:
                if batch.listeners is None:
                    batch.listeners = []
                batch.listeners.append(one_done)
        try:
            if batches:
                async with asyncio.timeout(timeout):
                    await settled
        except TimeoutError:
            raise RequestTimeout(f"flush: {left} batches are under way after {timeout} s") from None
        finally:
            with self.lock:
                self.accumulator.end_flush()

    async def close(self, timeout: float | None) -> None:
        """Send what is there, then stop; what is not delivered within ``timeout`` seconds fails."""
        if self.closed:
            return
        self.closed = True
        try:
            if self._task is not None:
                with contextlib.suppress(RequestTimeout):
                    await self.flush(timeout)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._sender.cancel()
        with (
            self.lock
        ):  # before anything is waited for: a second interruption leaves nobody waiting
            given_up = sum(map(len, self.accumulator.incomplete))
            calls = self.accumulator.abandon(
                RequestTimeout("the producer was closed before the record was acknowledged")
            )
        if given_up:
            log.warning("closed before all records were acknowledged", records=given_up)
        run_calls(calls)
        self._make_room()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.cluster.close()

    # Records

    def try_append(
        self,
        topic: str,
        value: Any,
        key: Any,
        partition: int | None,
        timestamp_ms: int | None,
        headers: Headers | None,
        on_delivery: OnDelivery | None,
    ) -> Batch | int:
        """The record's batch (it is the last in it), or its size when it must wait. Called under ``lock``.

        Raises ``TypeError`` and ``ValueError`` for what can't be a record, ``RecordTooLarge``, and what
        a serializer raises.
        """
        serialize = self._serialize_value
        if value is not None and (serialize is not None or value.__class__ is not bytes):
            value = _serialized(value, serialize)
        serialize = self._serialize_key
        if key is not None and (serialize is not None or key.__class__ is not bytes):
            key = _serialized(key, serialize)
        size = RECORD_OVERHEAD_BYTES + (len(value) if value is not None else 0)
        if key is not None:
            size += len(key)
        packed = NO_HEADERS
        if headers:
            packed = _headers(headers)
            size += _headers_bytes(packed)
        if size > self._largest:
            raise RecordTooLarge(f"a record of {size} bytes where {self._largest} are allowed")
        accumulator = self.accumulator
        state = accumulator.topics.get(topic)
        if state is None or accumulator.buffered_bytes + size > self._buffer_memory or self.closed:
            return size
        count = state.partition_count
        if not count:
            return size
        if partition is None and (key is not None or self._own_partitioner):
            partition = self._partitioner(topic, key, count)
        if partition is not None and not 0 <= partition < count:
            if partition < 0:
                raise ValueError(f"partition {partition} of {topic}")
            return size
        if timestamp_ms is None:
            timestamp_ms = time_ns() // 1_000_000
        else:
            _check_timestamp(timestamp_ms)
        batch = accumulator.batch_for(state, partition, size)
        batch.timestamps.append(timestamp_ms)
        batch.values.append(value)
        if batch.keys is not None:
            batch.keys.append(key)
        elif key is not None:
            batch.add_key(key)
        if packed or batch.headers is not None:
            batch.add_headers(packed)
        if on_delivery is not None:
            accumulator.call_back(batch, on_delivery)
        return batch

    async def make_ready(self, topic: str, partition: int | None, size_bytes: int) -> None:
        """Wait until the topic is known and the buffer has room; at most ``max_block_ms`` each.

        Raises ``KafkaError`` where waiting is in vain, ``RuntimeError`` on a closed producer.
        """
        self._check_open()
        await self.start()
        if self._sender.identity_error is not None:
            raise self._sender.identity_error
        await self.partitions_of(topic, -1 if partition is None else partition)
        try:
            async with asyncio.timeout(self.settings.max_block_ms / 1000):
                while not self.accumulator.has_room(size_bytes):
                    await self._wait_for_room()
        except TimeoutError:
            raise BufferFull(
                f"no room for {size_bytes} bytes within {self.settings.max_block_ms} ms"
            ) from None
        self._check_open()

    async def partitions_of(self, topic: str, at_least: int = -1) -> int:
        """The topic's number of partitions, once partition ``at_least`` is among them."""

        def known() -> int | None:
            found = self.cluster.metadata.topics.get(topic)
            if found is None:
                code = self.cluster.metadata.errors.get(topic)
                if code in _PERMANENT:
                    raise KafkaError(code, topic)
                return None
            return len(found.partitions) if at_least < len(found.partitions) else None

        self.cluster.add_topics(topic)
        what = f"topic {topic}" if at_least < 0 else f"partition {at_least} of topic {topic}"
        count = await self.cluster.wait_for(known, self.settings.max_block_ms, what)
        with self.lock:
            self.accumulator.topic(topic)
        self._metadata_changed()
        return count

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(waiter)
        with self.lock:
            for batch in self.accumulator.incomplete:
                if batch.listeners is None:
                    batch.listeners = []
                if self._make_room not in batch.listeners:
                    batch.listeners.append(self._make_room)
        self.wake()
        await waiter

    def _make_room(self) -> None:
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _metadata_changed(self) -> None:
        with self.lock:
            for name, state in self.accumulator.topics.items():
                found = self.cluster.metadata.topics.get(name)
                if found is not None:
                    state.update(
                        len(found.partitions),
                        [p.partition for p in found.partitions.values() if p.leader >= 0],
                    )
        self.wake()

    def wake(self) -> None:
        """Let the sender look again. Called on the loop."""
        self._sender.wake()

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("the producer is closed")


def _check_timestamp(timestamp_ms: int) -> None:
    if not 0 <= timestamp_ms < _TIMESTAMP_END_MS:
        raise ValueError(f"timestamp {timestamp_ms} is negative or too large")


def _serialized(value: Any, serialize: Serializer | None) -> bytes | None:
    if serialize is not None:
        value = serialize(value)
    return None if value is None else to_bytes(value)


def _headers_bytes(headers: Sequence[Header]) -> int:
    return sum(HEADER_OVERHEAD_BYTES + 2 * len(name) + len(part or b"") for name, part in headers)


def _headers(headers: Headers) -> list[Header]:
    pairs = headers.items() if isinstance(headers, dict) else headers
    packed = []
    for name, part in pairs:
        if not isinstance(name, str):
            raise TypeError(f"a header's name is a str, not {type(name).__name__}")
        packed.append((name, None if part is None else to_bytes(part)))
    return packed
