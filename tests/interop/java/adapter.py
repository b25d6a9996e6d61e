"""The Java clients as the tests use them."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.interop.java.host import JavaError, host
from tests.interop.samples import SAMPLES, Sample
from tests.support.waiting import DEADLINE_S, eventually

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WRITABLE = SAMPLES
POLL_MS = 100

_numbers = itertools.count()

__all__ = ["JavaError"]

JAVA = host()


def encoded(data: bytes | None) -> str | None:
    """Bytes as the JVM's JSON has them."""
    return None if data is None else base64.b64encode(data).decode()


def decoded(text: str | None) -> bytes | None:
    """Bytes out of the JVM's JSON."""
    return None if text is None else base64.b64decode(text)


def record(topic: str, sample: Sample, partition: int | None = None) -> dict[str, Any]:
    """A sample as the JVM's producer takes it."""
    return {
        "topic": topic,
        "partition": partition,
        "timestamp": sample.timestamp_ms if sample.timestamp_ms >= 0 else None,
        "key": encoded(sample.key),
        "value": encoded(sample.value),
        "headers": [[name, encoded(value)] for name, value in sample.headers],
    }


def send(bootstrap: str, records: Sequence[dict[str, Any]], **settings: object) -> list[Any]:
    """What became of each record: ``[partition, offset, timestamp]``, or an error. Dots are underscores."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    return list(JAVA.send({"bootstrap.servers": bootstrap, "linger.ms": 20, **given}, records))


def write(
    bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
) -> None:
    """Write the samples under a codec; all are acknowledged when this returns."""
    records = [record(topic, sample, partition) for sample in samples]
    sent = send(bootstrap, records, compression_type=codec, acks="all")
    assert [partition for partition, _, _ in sent] == [partition] * len(samples)


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
    """The first ``count`` records of a partition."""
    with consumer(bootstrap) as reader:
        reader("assign", partitions=[[topic, partition]])
        return [sample_of(found) for found in take(reader, count)]


class JavaConsumer:
    """A KafkaConsumer in the JVM; a call of it is a call of the Java method."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, verb: str, **fields: Any) -> Any:
        return JAVA.call("consumer", name=self._name, verb=verb, **fields)

    def poll(self) -> list[dict[str, Any]]:
        """What came within a moment."""
        return list(self("poll", timeout_ms=POLL_MS))

    def partitions(self) -> set[int]:
        """The numbers of the partitions that it has now."""
        return {int(each.rpartition("-")[2]) for each in self("assignment")}


@contextmanager
def consumer(
    bootstrap: str, group: str | None = None, **settings: object
) -> Iterator[JavaConsumer]:
    """A consumer that commits nothing by itself, closed at the end."""
    name = f"consumer {next(_numbers)}"
    given = {key.replace("_", "."): value for key, value in settings.items()}
    if group is not None:
        given["group.id"] = group
    fixed = {
        "bootstrap.servers": bootstrap,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "fetch.max.wait.ms": 50,
        "heartbeat.interval.ms": 50,
        "session.timeout.ms": 10_000,
        "retry.backoff.ms": 10,
        "metadata.max.age.ms": 500,
    }
    made = JavaConsumer(name)
    made("open", settings={**fixed, **given})
    try:
        yield made
    finally:
        made("close")


def take(reader: JavaConsumer, count: int) -> list[dict[str, Any]]:
    """The next ``count`` records."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records arrived"
        found += reader.poll()
    assert len(found) == count
    return found


def settled(members: Sequence[JavaConsumer], partitions: int) -> list[set[int]]:
    """Poll the members until they share all partitions evenly; what each has then."""

    def shares() -> list[set[int]] | None:
        for member in members:
            member.poll()
        owned = [member.partitions() for member in members]
        sizes = sorted(map(len, owned))
        whole = sum(sizes) == partitions == len(set().union(*owned))
        return owned if whole and sizes[-1] - sizes[0] <= 1 else None

    found = eventually(shares, f"{partitions} partitions among {len(members)}")
    assert found is not None
    return found


def sample_of(found: dict[str, Any]) -> Sample:
    """A record as a sample."""
    headers = tuple((name, decoded(value)) for name, value in found["headers"])
    return Sample(decoded(found["key"]), decoded(found["value"]), headers, found["timestamp"])
