"""Ottla's own client as the matrix of clients uses it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ottla import Consumer, Producer, TopicPartition
from tests.interop.samples import SAMPLES, Sample, headers_of
from tests.support.waiting import DEADLINE_S

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WRITABLE = SAMPLES


def write(
    bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
) -> None:
    """Write the samples under a codec; all are acknowledged when this returns."""
    with Producer(bootstrap, compression=codec, linger_ms=20) as producer:
        sent = [
            producer.send(
                topic,
                sample.value,
                key=sample.key,
                partition=partition,
                timestamp_ms=sample.timestamp_ms if sample.timestamp_ms >= 0 else None,
                headers=list(sample.headers),
            )
            for sample in samples
        ]
        for delivery in sent:
            delivery.result(DEADLINE_S)


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
    """The first ``count`` records of a partition."""
    records: list[Any] = []
    deadline = time.monotonic() + DEADLINE_S
    with Consumer(bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, partition)])
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records arrived"
            records += consumer.poll(0.2, count - len(records))
    return [
        Sample(record.key, record.value, headers_of(record.headers), record.timestamp_ms)
        for record in records
    ]
