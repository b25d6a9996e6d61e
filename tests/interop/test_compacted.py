"""Other clients read a compacted topic: gaps, bare headers and all, from any offset to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import pytest

from ottla.records.builder import build_batch
from ottla.testing import Broker
from tests.interop.requirements import require_module
from tests.support.requests import create_topic, fetch, list_offset, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]

SETTINGS = {
    "log.cleaner.backoff.ms": 20,
    "log.cleaner.min.cleanable.ratio": 0.01,
    "log.segment.bytes": 2_000,
}
END = 100
DEADLINE_S = 30.0

Found = list[tuple[int, bytes | None]]


def value_of(number: int) -> bytes | None:
    return None if number % 9 == 0 else b"%d " % number + b"v" * 80


@pytest.fixture(scope="module")
def compacted() -> Iterator[tuple[str, Found]]:
    """A broker with the topic, and what is left in it: offsets and values."""
    with Broker(SETTINGS) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t", cleanup_policy="compact")
        for number in range(END):
            record = (1_700_000_000_000 + number, b"k%d" % (number % 7), value_of(number), ())
            batch = build_batch(
                [record],
                producer_id=5,
                producer_epoch=0,
                base_sequence=number,
            )
            assert produce(wire, "t", bytes(batch)).error_code == 0
        assert broker.server is not None
        partition = broker.server.replicas.get("t", 0)
        assert partition is not None
        log = partition.log
        wait_until(lambda: log.clean_end_offset == log.segments.active.base_offset > 0)
        assert list_offset(wire, "t", -1).offset == END
        assert fetch(wire, "t", 0).error_code == 0
        active = log.segments.active.base_offset
        newest = {number % 7: (number, value_of(number)) for number in range(active)}
        dirty = [(number, value_of(number)) for number in range(active, END)]
        left = sorted(newest.values(), key=itemgetter(0))
        yield broker.bootstrap, left + dirty


def with_librdkafka(bootstrap: str, start: int, count: int) -> Found:
    kafka = require_module("confluent_kafka", "confluent-kafka")
    consumer = kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "check.crcs": True})
    try:
        consumer.assign([kafka.TopicPartition("t", 0, start)])
        found: Found = []
        while len(found) < count:
            message = consumer.poll(DEADLINE_S)
            assert message is not None
            assert message.error() is None, message.error()
            found.append((message.offset(), message.value()))
        return found
    finally:
        consumer.close()


def with_kafka_python(bootstrap: str, start: int, count: int) -> Found:
    kafka = require_module("kafka", "kafka-python")
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap, consumer_timeout_ms=int(DEADLINE_S * 1000)
    )
    try:
        place = kafka.TopicPartition("t", 0)
        consumer.assign([place])
        consumer.seek(place, start)
        found: Found = []
        while len(found) < count:
            record = next(consumer)
            found.append((record.offset, record.value))
        return found
    finally:
        consumer.close()


def with_aiokafka(bootstrap: str, start: int, count: int) -> Found:
    aiokafka = require_module("aiokafka", "aiokafka")

    async def read() -> Found:
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap)
        await consumer.start()
        try:
            place = aiokafka.TopicPartition("t", 0)
            consumer.assign([place])
            consumer.seek(place, start)
            found: Found = []
            while len(found) < count:
                record: Any = await asyncio.wait_for(consumer.getone(), DEADLINE_S)
                found.append((record.offset, record.value))
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


@pytest.mark.parametrize("read", [with_librdkafka, with_kafka_python, with_aiokafka])
def test_compacted_topic_is_read_from_any_offset(
    compacted: tuple[str, Found], read: Callable[[str, int, int], Found]
) -> None:
    bootstrap, left = compacted
    assert len(left) < END / 2
    for start in (0, 1, left[0][0], left[0][0] + 1, END - 2):
        expected = [found for found in left if found[0] >= start]
        assert read(bootstrap, start, len(expected)) == expected
