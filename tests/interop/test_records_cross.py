"""What one client writes, every other reads: keys, headers, times, nulls, and every codec.

Each writer fills a topic of its own, a partition for each codec, with every record that its interface lets it
send; each reader reads all of it. A time is compared where the writer could choose one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Protocol

import pytest

from tests.interop.programs.clients import CLIENTS
from tests.interop.raw import RawClient
from tests.interop.samples import BASE_MS, Sample
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.interop,
    # kafka-python leaves one to the garbage collector at times.
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]

ADAPTERS = {
    "confluent-kafka": "tests.interop.confluent_kafka.adapter",
    "aiokafka": "tests.interop.aiokafka.adapter",
    "kafka-python": "tests.interop.kafka_python.adapter",
    "kcat": "tests.interop.kcat.adapter",
    "java": "tests.interop.java.adapter",
    "kafka-console": "tests.interop.java.console",
    "ottla": "tests.interop.ottla_client",
}
NAMES = [*ADAPTERS, *CLIENTS]
PAIRS = list(itertools.product(NAMES, NAMES))


class Adapter(Protocol):
    """A client: what it can write, and its two verbs."""

    @property
    def CODECS(self) -> Sequence[str]:
        """What it compresses with."""

    @property
    def WRITABLE(self) -> Sequence[Sample]:
        """The samples that its interface lets it send."""

    def write(
        self, bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
    ) -> None:
        """Write the samples under a codec; all are acknowledged when this returns."""

    def read(self, bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
        """The first ``count`` records of a partition."""


class Written:
    """The topics that writers have filled so far, so that each writes once."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._topics: dict[str, str] = {}

    def topic_of(self, writer: str) -> str:
        """The topic with what ``writer`` wrote."""
        if writer not in self._topics:
            adapter = adapter_of(writer)
            topic = f"cross.{writer}.{os.urandom(3).hex()}"
            with RawClient(self._bootstrap) as raw:
                raw.create_topic(topic, len(adapter.CODECS))
                for partition in range(len(adapter.CODECS)):
                    # Apache Kafka names a leader before that one knows of it, and not every client asks often enough.
                    eventually(partial(raw.leads, topic, partition), f"{topic}-{partition} is led")
                for partition, codec in enumerate(adapter.CODECS):
                    adapter.write(self._bootstrap, topic, partition, codec, adapter.WRITABLE)
                    assert raw.offset(topic, partition) == len(adapter.WRITABLE)
                    kinds = {b.compression.name.lower() for b in raw.batches(topic, partition)}
                    assert codec in kinds
            self._topics[writer] = topic
        return self._topics[writer]


def adapter_of(client: str) -> Adapter:
    """The client; the test is left out where this machine lacks it."""
    if client in CLIENTS:
        return CLIENTS[client]
    return import_module(ADAPTERS[client])  # type: ignore[return-value]


@pytest.fixture(scope="module")
def written(bootstrap: str) -> Callable[[str], str]:
    """The topic that a writer filled."""
    return Written(bootstrap).topic_of


@pytest.mark.parametrize(("writer", "reader"), PAIRS, ids=["-to-".join(pair) for pair in PAIRS])
def test_what_one_client_writes_another_reads(
    writer: str, reader: str, bootstrap: str, written: Callable[[str], str]
) -> None:
    wrote, reads = adapter_of(writer), adapter_of(reader)
    expected = list(wrote.WRITABLE)
    if reader in CLIENTS:
        expected = [CLIENTS[reader].seen(sample) for sample in expected]
    topic = written(writer)
    for partition, codec in enumerate(wrote.CODECS):
        got = reads.read(bootstrap, topic, partition, len(expected))
        assert [sample[:3] for sample in got] == [sample[:3] for sample in expected], codec
        for sample, wanted in zip(got, expected, strict=True):
            if wanted.timestamp_ms >= 0:
                assert sample.timestamp_ms == wanted.timestamp_ms, codec
            else:
                assert sample.timestamp_ms > BASE_MS, codec
