"""confluent-kafka as the tests use it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.interop.requirements import require_module
from tests.interop.samples import SAMPLES, Sample, headers_of
from tests.support.waiting import DEADLINE_S

confluent_kafka = require_module("confluent_kafka", "confluent-kafka")
admin = require_module("confluent_kafka.admin", "confluent-kafka")

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WRITABLE = SAMPLES


class Deliveries:
    """The delivery reports of a producer, in their order."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.errors: list[Any] = []

    def __call__(self, error: Any, message: Any) -> None:
        """librdkafka's callback."""
        if error is None:
            self.messages.append(message)
        else:
            self.errors.append(error)

    @property
    def offsets(self) -> list[int]:
        """The offsets of what was delivered."""
        return [message.offset() for message in self.messages]


def producer(bootstrap: str, **settings: object) -> Any:
    """A producer; ``settings`` are librdkafka's with underscores for dots."""
    return confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 1, **_dotted(settings)}
    )


def consumer(bootstrap: str, group: str = "-", **settings: object) -> Any:
    """A consumer that does not commit by itself and heeds a rebalance at once."""
    return confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "heartbeat.interval.ms": 50,
            "session.timeout.ms": 20_000,
            "fetch.wait.max.ms": 50,
            **_dotted(settings),
        }
    )


def admin_client(bootstrap: str) -> Any:
    """An admin client."""
    return admin.AdminClient({"bootstrap.servers": bootstrap})


def create_topic(
    bootstrap: str, topic: str, partitions: int = 1, config: dict[str, str] | None = None
) -> None:
    """Create a topic and wait until it is there."""
    new = admin.NewTopic(topic, partitions, config=config or {})
    client = admin_client(bootstrap)  # it has to live until the answer is there
    client.create_topics([new])[topic].result(DEADLINE_S)


def send(producer: Any, topic: str, samples: Sequence[Sample], partition: int = 0) -> Deliveries:
    """Produce the samples and wait for all their reports."""
    deliveries = Deliveries()
    for sample in samples:
        producer.produce(
            topic,
            key=sample.key,
            value=sample.value,
            headers=list(sample.headers),
            timestamp=max(sample.timestamp_ms, 0),
            partition=partition,
            on_delivery=deliveries,
        )
    assert producer.flush(DEADLINE_S) == 0, "some records have no report"
    return deliveries


def write(
    bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
) -> None:
    """Write the samples under a codec; all are acknowledged when this returns."""
    settings = {"compression.type": codec, "linger.ms": 20}
    deliveries = send(producer(bootstrap, **settings), topic, samples, partition)
    assert not deliveries.errors
    assert len(deliveries.messages) == len(samples)


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
    """The first ``count`` records of a partition."""
    reader = consumer(bootstrap)
    try:
        reader.assign([confluent_kafka.TopicPartition(topic, partition, 0)])
        return [sample_of(message) for message in take(reader, count)]
    finally:
        reader.close()


def take(consumer: Any, count: int) -> list[Any]:
    """The next ``count`` messages."""
    messages: list[Any] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} records arrived"
        for message in consumer.consume(count - len(messages), timeout=0.2):
            if message.error():
                raise confluent_kafka.KafkaException(message.error())
            messages.append(message)
    return messages


def sample_of(message: Any) -> Sample:
    """A message as a sample."""
    kind, timestamp_ms = message.timestamp()
    assert kind != confluent_kafka.TIMESTAMP_NOT_AVAILABLE
    return Sample(message.key(), message.value(), headers_of(message.headers()), timestamp_ms)


def _dotted(settings: dict[str, object]) -> dict[str, object]:
    return {name.replace("_", "."): value for name, value in settings.items()}
