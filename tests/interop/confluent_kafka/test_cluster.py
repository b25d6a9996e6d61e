"""librdkafka and a cluster of three brokers in this process: one of them stops, and it goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.broker import Broker as Server
from ottla.coordination.embedded import Keeper
from tests.broker.test_several_brokers import server
from tests.interop.confluent_kafka.adapter import (
    Deliveries,
    admin,
    admin_client,
    consumer,
    producer,
)
from tests.support.waiting import DEADLINE_S, eventually

pytestmark = pytest.mark.interop

SETTINGS = {
    "offsets_topic_replication_factor": 3,
    "offsets_topic_num_partitions": 3,
    "default_replication_factor": 3,
}


class Three:
    """Brokers 1 to 3 on an event loop in a thread."""

    def __init__(self, data: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._keeper: Keeper = self.do(Keeper.open())
        self.brokers: dict[int, Server] = {
            number: server(self._keeper, data, number, **SETTINGS) for number in (1, 2, 3)
        }
        for broker in self.brokers.values():
            self.do(broker.start())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run ``work`` on the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    @property
    def bootstrap(self) -> str:
        return ",".join("{}:{}".format(*broker.address) for broker in self.brokers.values())

    def close(self) -> None:
        for broker in self.brokers.values():
            self.do(broker.stop())
        self.do(self._keeper.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def three(data: Path) -> Iterator[Three]:
    cluster = Three(data)
    try:
        yield cluster
    finally:
        cluster.close()


def leaders(bootstrap: str, topic: str) -> dict[int, int]:
    found = admin_client(bootstrap).list_topics(topic, timeout=DEADLINE_S).topics[topic]
    return {number: partition.leader for number, partition in found.partitions.items()}


@pytest.mark.parametrize("number", [1, 2])
def test_produce_and_consume_go_on_when_a_broker_stops(
    tmp_path: Path, number: int, only_ottla: None
) -> None:
    """Broker 1 is the controller, too."""
    with three(tmp_path) as cluster:
        bootstrap, topic, group = cluster.bootstrap, "orders", "readers"
        new = admin.NewTopic(topic, 3, 3, config={"min.insync.replicas": "2"})
        client = admin_client(bootstrap)
        client.create_topics([new])[topic].result(DEADLINE_S)
        assert sorted(leaders(bootstrap, topic).values()) == [1, 2, 3]
        deliveries, reports = producer(bootstrap, acks="all", enable_idempotence=True), Deliveries()
        readers = consumer(bootstrap, group)
        readers.subscribe([topic])
        got: list[bytes] = []

        def send(numbers: range) -> None:
            for value in numbers:
                deliveries.produce(topic, b"%d" % value, partition=value % 3, on_delivery=reports)
            assert deliveries.flush(DEADLINE_S) == 0
            assert reports.errors == []

        def take(count: int) -> None:
            def enough() -> bool:
                got.extend(m.value() for m in readers.consume(100, 0.1) if m.error() is None)
                return len(got) >= count

            eventually(enough, f"{count} records are read")

        send(range(90))
        take(90)
        readers.commit(asynchronous=False)
        cluster.do(cluster.brokers[number].stop())
        send(range(90, 180))
        take(180)
        readers.commit(asynchronous=False)
        readers.close()
        assert sorted(got, key=int) == [b"%d" % value for value in range(180)]
        assert number not in leaders(bootstrap, topic).values()
        left = [broker for key, broker in cluster.brokers.items() if key != number]
        for index in range(3):
            ends = {b.replicas.get(topic, index).log.log_end_offset for b in left}  # type: ignore[union-attr]
            assert ends == {60}
