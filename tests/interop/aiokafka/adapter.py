"""aiokafka as the tests use it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

from tests.interop.requirements import require_module
from tests.interop.samples import SAMPLES, Sample, headers_of
from tests.support.waiting import DEADLINE_S

aiokafka = require_module("aiokafka", "aiokafka")
admin = require_module("aiokafka.admin", "aiokafka")

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# It sends no record that has neither a key nor a value.
WRITABLE = tuple(s for s in SAMPLES if s.key is not None or s.value is not None)

P = ParamSpec("P")


def asynchronous(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Make a plain test of a coroutine."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def within_deadline() -> None:
            async with asyncio.timeout(2 * DEADLINE_S):
                await test(*args, **kwargs)

        asyncio.run(within_deadline())

    return run


@asynccontextmanager
async def producer(bootstrap: str, **settings: object) -> AsyncIterator[Any]:
    """A producer that is started, and stopped at the end."""
    writer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, **settings)
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


@asynccontextmanager
async def consumer(bootstrap: str, *topics: str, **settings: Any) -> AsyncIterator[Any]:
    """A consumer that is started, and stopped at the end."""
    reader = aiokafka.AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        **{
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "fetch_max_wait_ms": 50,
            "heartbeat_interval_ms": 50,
            "session_timeout_ms": 20_000,
            "retry_backoff_ms": 10,
            **settings,
        },
    )
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


@asynccontextmanager
async def admin_client(bootstrap: str) -> AsyncIterator[Any]:
    """An admin client that is started, and closed at the end."""
    client = admin.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create_topic(
    bootstrap: str, topic: str, partitions: int = 1, config: dict[str, str] | None = None
) -> None:
    """Create a topic."""
    async with admin_client(bootstrap) as client:
        answer = await client.create_topics(
            [admin.NewTopic(topic, partitions, 1, topic_configs=config or {})]
        )
        assert [error[1] for error in answer.topic_errors] == [0], answer


async def send(writer: Any, topic: str, samples: Sequence[Sample], partition: int = 0) -> list[int]:
    """Produce the samples; their offsets once all are acknowledged."""
    futures = [
        await writer.send(
            topic,
            key=sample.key,
            value=sample.value,
            headers=list(sample.headers),
            timestamp_ms=sample.timestamp_ms if sample.timestamp_ms >= 0 else None,
            partition=partition,
        )
        for sample in samples
    ]
    return [metadata.offset for metadata in await asyncio.gather(*futures)]


async def take(reader: Any, count: int) -> list[Any]:
    """The next ``count`` records."""
    return [await asyncio.wait_for(reader.getone(), DEADLINE_S) for _ in range(count)]


def write(
    bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
) -> None:
    """Write the samples under a codec; all are acknowledged when this returns."""

    async def produce() -> None:
        kind = None if codec == "none" else codec
        async with producer(bootstrap, compression_type=kind, linger_ms=20) as writer:
            await send(writer, topic, samples, partition)

    asyncio.run(produce())


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
    """The first ``count`` records of a partition."""

    async def consume() -> list[Sample]:
        async with consumer(bootstrap) as reader:
            reader.assign([aiokafka.TopicPartition(topic, partition)])
            return [sample_of(record) for record in await take(reader, count)]

    return asyncio.run(consume())


def sample_of(record: Any) -> Sample:
    """A record as a sample."""
    return Sample(record.key, record.value, headers_of(record.headers), record.timestamp)
