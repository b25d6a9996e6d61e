"""kafka-python as the tests use it."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.interop.requirements import require_module
from tests.interop.samples import SAMPLES, Sample, headers_of
from tests.support.waiting import DEADLINE_S

kafka = require_module("kafka", "kafka-python")
errors = require_module("kafka.errors", "kafka-python")
admin = require_module("kafka.admin", "kafka-python")
for _module, _package in (
    ("snappy", "python-snappy"),
    ("lz4.frame", "lz4"),
    ("zstandard", "zstandard"),
):
    require_module(_module, f"{_package} (for kafka-python's codec)")

# See collect_sockets: the collector may come by itself while a test still runs.
MARKS = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# It sends no null header and no record that has neither a key nor a value.
WRITABLE = tuple(
    sample._replace(headers=tuple(h for h in sample.headers if h[1] is not None))
    for sample in SAMPLES
    if sample.key is not None or sample.value is not None
)


def collect_sockets() -> None:
    """Collect what a closed client left: at times a socket, which would warn in whatever test runs then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def producer(bootstrap: str, **settings: object) -> Iterator[Any]:
    """A producer, closed at the end."""
    writer = kafka.KafkaProducer(bootstrap_servers=bootstrap, **settings)
    try:
        yield writer
    finally:
        writer.close()
        collect_sockets()


@contextmanager
def consumer(bootstrap: str, *topics: str, **settings: Any) -> Iterator[Any]:
    """A consumer that does not commit by itself and heeds a rebalance at once; closed at the end."""
    reader = kafka.KafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        **{
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "fetch_max_wait_ms": 50,
            "heartbeat_interval_ms": 50,
            "session_timeout_ms": 20_000,
            "retry_backoff_ms": 10,
            "metadata_max_age_ms": 500,
            **settings,
        },
    )
    try:
        yield reader
    finally:
        reader.close()
        collect_sockets()


class Member(kafka.ConsumerRebalanceListener):  # type: ignore[misc, name-defined]
    """A consumer in a group that polls in a thread of its own, as long calls join a group."""

    def __init__(self, bootstrap: str, topic: str, **settings: Any) -> None:
        self.assignments = 0
        self._stop = threading.Event()
        self._settings = settings
        self._bootstrap = bootstrap
        self._topic = topic
        self._owned: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="kafka-python-member")
        self._failure: BaseException | None = None

    @property
    def partitions(self) -> set[int]:
        """The partitions that it owns."""
        if self._failure is not None:
            raise self._failure
        return set(self._owned)

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Called before a rebalance."""
        self._owned -= {partition.partition for partition in revoked}

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Called after a rebalance."""
        self.assignments += 1
        self._owned |= {partition.partition for partition in assigned}

    def __enter__(self) -> Member:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with consumer(self._bootstrap, **self._settings) as member:
                member.subscribe([self._topic], listener=self)
                while not self._stop.is_set():
                    member.poll(200)
        except BaseException as error:
            self._failure = error


@contextmanager
def admin_client(bootstrap: str) -> Iterator[Any]:
    """An admin client, closed at the end."""
    client = kafka.KafkaAdminClient(bootstrap_servers=bootstrap, retry_backoff_ms=10)
    try:
        yield client
    finally:
        client.close()
        collect_sockets()


def create_topic(
    bootstrap: str, topic: str, partitions: int = 1, config: dict[str, str] | None = None
) -> None:
    """Create a topic."""
    with admin_client(bootstrap) as client:
        client.create_topics({topic: {"num_partitions": partitions, "configs": config or {}}})


def send(writer: Any, topic: str, samples: Sequence[Sample], partition: int = 0) -> list[Any]:
    """Produce the samples; what the broker said of each."""
    futures = [
        writer.send(
            topic,
            key=sample.key,
            value=sample.value,
            headers=list(sample.headers),
            timestamp_ms=sample.timestamp_ms if sample.timestamp_ms >= 0 else None,
            partition=partition,
        )
        for sample in samples
    ]
    return [future.get(DEADLINE_S) for future in futures]


def take(reader: Any, count: int) -> list[Any]:
    """The next ``count`` records."""
    records: list[Any] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records arrived"
        for part in reader.poll(200, max_records=count - len(records)).values():
            records += part
    return records


def write(
    bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
) -> None:
    """Write the samples under a codec; all are acknowledged when this returns."""
    kind = None if codec == "none" else codec
    with producer(bootstrap, compression_type=kind, linger_ms=20) as writer:
        send(writer, topic, samples, partition)


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
    """The first ``count`` records of a partition."""
    with consumer(bootstrap) as reader:
        reader.assign([kafka.TopicPartition(topic, partition)])
        return [sample_of(record) for record in take(reader, count)]


def sample_of(record: Any) -> Sample:
    """A record as a sample."""
    return Sample(record.key, record.value, headers_of(record.headers), record.timestamp)
