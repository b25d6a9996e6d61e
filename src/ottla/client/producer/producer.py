"""The asynchronous producer: ``ottla.aio.Producer``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ottla.client.producer.chosen_intake import LET_LOOP_TURN, AsyncDelivery, Headers, OnDelivery
from ottla.client.producer.core import ProducerCore
from ottla.client.producer.settings import ProducerOptions, producer_settings
from ottla.client.settings import split_options
from ottla.client.types import RecordMetadata


class AsyncProducer:
    """Sends records to topics.

    ``await producer.send(...)`` takes a record (it waits only for an unknown topic or a full buffer)
    and returns its delivery; ``await delivery`` waits until the broker has it.

    Settings, with times in milliseconds and sizes in bytes:

    - ``bootstrap``: addresses of one or more brokers ("host:port,host:port" or a list); by default
      ``OTTLA_BOOTSTRAP`` from the environment, or localhost:9092.
    - ``acks``: "all" (every replica in sync has it), 1 (the leader has it) or 0 (nobody is asked).
    - ``idempotent``: a record that is sent again is not written again, and order is kept. Needs
      ``acks="all"``. Without it order is kept, too, but a retry may double a record.
    - ``linger_ms``, ``batch_size``: records for one partition wait that long for others, up to that size.
    - ``compression``: "gzip", "snappy", "lz4" or "zstd".
    - ``partitioner``: called with topic, key and number of partitions when ``send`` names none.
    - ``key_serializer``, ``value_serializer``: "bytes", "str", "json" or a callable; without one bytes go as
      they are and str as UTF-8.
    - ``buffer_memory``, ``max_block_ms``: what may wait for acknowledgement, and how long ``send`` waits
      for room or for an unknown topic.
    - ``delivery_timeout_ms``: until when a record is tried; ``request_timeout_ms`` for one attempt.
    - ``max_in_flight``: batches of a partition, and requests to a broker, that are sent ahead of answers.
    """

    def __init__(
        self, bootstrap: str | Sequence[str] | None = None, **options: Unpack[ProducerOptions]
    ) -> None:
        connection, own = split_options(bootstrap, options, "ottla-producer")
        self._core = ProducerCore(connection, producer_settings(**own))
        self._take: Callable[..., Any] = self._core.intake.take

    async def __aenter__(self) -> Self:
        await self._core.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> AsyncDelivery:
        """Take a record; it is sent in the background.

        Awaiting what this returns gives the record's ``RecordMetadata``; ``on_delivery(metadata, error)``
        is called on the loop, with one of the two. Raises ``KafkaError`` for an impossible topic,
        ``BufferFull``, ``RecordTooLarge``, ``TypeError`` or ``ValueError`` for what can't be a record.
        """
        while True:
            taken = self._take(topic, value, key, partition, timestamp_ms, headers, on_delivery)
            if taken.__class__ is AsyncDelivery:
                delivery: AsyncDelivery = taken
                return delivery
            if taken == LET_LOOP_TURN:
                await asyncio.sleep(0)
            else:
                await self._core.make_ready(topic, partition, taken)

    async def send_and_wait(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> RecordMetadata:
        """``send``, and wait until the broker has the record."""
        return await (await self.send(topic, value, key, partition, timestamp_ms, headers))

    async def partitions_for(self, topic: str) -> int:
        """The topic's number of partitions."""
        await self._core.start()
        return await self._core.partitions_of(topic)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until all records taken so far are acknowledged or failed; nothing lingers.

        Raises ``RequestTimeout`` after ``timeout`` seconds.
        """
        await self._core.flush(timeout)

    async def close(self, timeout: float | None = None) -> None:
        """Flush and stop; what is not acknowledged after ``timeout`` seconds fails."""
        await self._core.close(timeout)
