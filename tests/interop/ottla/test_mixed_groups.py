"""Our consumer in one group with other people's clients: whoever leads, all understand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

import ottla
from tests.interop.ottla.members import Member, shared
from tests.interop.requirements import require_module
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

PARTITIONS = 6
COUNT = 300


class Other:
    """Another client's member, polling in a thread."""

    def __init__(self, poll: Callable[[], list[bytes]], owned: Callable[[], set[int]]) -> None:
        self.values: list[bytes] = []
        self.partitions: set[int] = set()
        self._poll = poll
        self._owned = owned
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self.values += self._poll()
            self.partitions = self._owned()

    @contextmanager
    def running(self, close: Callable[[], Any]) -> Iterator[Other]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._thread.join()
            close()
            self.partitions = set()


@contextmanager
def confluent(bootstrap: str, topic: str, group: str, assignor: str) -> Iterator[Other]:
    confluent_kafka = require_module("confluent_kafka", "confluent-kafka")
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "heartbeat.interval.ms": 50,
            "partition.assignment.strategy": assignor,
        }
    )
    consumer.subscribe([topic])

    def poll() -> list[bytes]:
        return [message.value() for message in consumer.consume(100, 0.05)]

    other = Other(poll, lambda: {p.partition for p in consumer.assignment()})
    with other.running(consumer.close) as running:
        yield running


@contextmanager
def kafka_python(bootstrap: str, topic: str, group: str, assignor: str) -> Iterator[Other]:
    kafka = require_module("kafka", "kafka-python")
    module, name = {
        "range": ("range", "RangePartitionAssignor"),
        "roundrobin": ("roundrobin", "RoundRobinPartitionAssignor"),
        "sticky": ("sticky.sticky_assignor", "StickyPartitionAssignor"),
        "cooperative-sticky": ("cooperative_sticky", "CooperativeStickyAssignor"),
    }[assignor]
    assignors = require_module(f"kafka.coordinator.assignors.{module}", "kafka-python")
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        heartbeat_interval_ms=50,
        retry_backoff_ms=10,
        partition_assignment_strategy=[getattr(assignors, name)],
    )

    def poll() -> list[bytes]:
        return [r.value for records in consumer.poll(50).values() for r in records]

    other = Other(poll, lambda: {p.partition for p in consumer.assignment()})
    with other.running(consumer.close) as running:
        yield running


def owns_all(member: Any) -> bool:
    return len(member.partitions) == PARTITIONS


CASES = [
    (confluent, "range"),
    (confluent, "roundrobin"),
    (confluent, "cooperative-sticky"),
    (kafka_python, "range"),
    (kafka_python, "roundrobin"),
    (kafka_python, "sticky"),
    (kafka_python, "cooperative-sticky"),
]


@pytest.fixture
def topic(bootstrap: str, unused: str) -> str:
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(unused, PARTITIONS, 1)
    return unused


def fill(bootstrap: str, topic: str, start: int, end: int) -> None:
    with ottla.Producer(bootstrap) as producer:
        for number in range(start, end):
            producer.send(topic, b"%d" % number, partition=number % PARTITIONS)


@pytest.mark.parametrize(("client", "assignor"), CASES)
def test_we_share_a_group_whoever_leads(
    bootstrap: str, topic: str, client: Any, assignor: str
) -> None:
    with ExitStack() as ours_first:
        first = ours_first.enter_context(Member(bootstrap, topic, topic, assignors=[assignor]))
        eventually(partial(owns_all, first), "all partitions to the first")
        with client(bootstrap, topic, topic, assignor) as theirs:
            eventually(partial(shared, PARTITIONS, first, theirs), "an even share, by our leader")
            # kafka-python that leads before it has heard of the topic stays without partitions: let it read.
            fill(bootstrap, topic, 0, COUNT)
            eventually(lambda: theirs.values, "records to theirs")
            ours_first.close()
            eventually(partial(owns_all, theirs), "all partitions to theirs")
            with Member(bootstrap, topic, topic, assignors=[assignor]) as ours:
                eventually(partial(shared, PARTITIONS, ours, theirs), "an even share, by theirs")
                fill(bootstrap, topic, COUNT, 2 * COUNT)
                wanted = {b"%d" % number for number in range(2 * COUNT)}
                read = first.records, ours.records
                eventually(
                    lambda: {r.value for rs in read for r in rs} | set(theirs.values) == wanted,
                    "every record to one of them",
                )
                assert ours.records
            eventually(partial(owns_all, theirs), "all partitions back to theirs")
