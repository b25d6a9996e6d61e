"""Records a second of our clients beside confluent-kafka's and aiokafka's, against the same broker process.

    python -m bench.clients [--rounds 5] [--records 100000] [--only produce]

Each measurement is a client process of its own, one after the other and all in every round. All send the
same: values of 100 bytes without a key to a topic of one partition, ``acks=all`` and idempotence on, 5 ms to
linger, batches of up to 128 KiB, no compression. The shape of the call is each client's own for "send without
waiting, then flush": ``send`` (ours), ``produce`` with ``poll(0)`` (confluent-kafka), ``await send`` without
awaiting what it returns (aiokafka, and ours under asyncio). Reading: the whole topic by assignment, from its
start, in a poll loop that looks at every value's length: ``poll(max_records=500)`` (ours), ``consume(500)``
(confluent-kafka), ``getmany(max_records=500)`` (aiokafka), checksums verified by all of them.

The clock runs from the first ``send`` to the end of ``flush``, after 1,000 records that warmed up; for a
consumer from its first 1,000 records to its last. CPU seconds are those of the client's process in that time.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.broker_process import (
    Connection,
    broker,
    create_topic_frame,
    free_port,
    require_no_error,
)
from bench.figures import Figures, Goal, table

VALUE = bytes(range(100))
WARM = 1_000
BATCH_BYTES = 128 * 1024
LINGER_MS = 5
POLL_RECORDS = 500
READ_TOPIC = "read"
TIMEOUT_S = 120
CLIENTS = ("ottla", "ottla.aio", "confluent-kafka", "aiokafka")
GOAL = Goal(at_least=3.0)


class Stopwatch:
    """Seconds and this process's CPU seconds between ``start`` and ``stop``."""

    def start(self) -> None:
        """Begin."""
        self._begin, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End, and print both for the process that asked."""
        print(time.perf_counter() - self._begin, time.process_time() - self._cpu)


# Producers. Each warms up, then sends ``count`` records.


def produce_ottla(bootstrap: str, topic: str, count: int) -> None:
    """Ours."""
    import ottla

    watch = Stopwatch()
    options: Any = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES}
    with ottla.Producer(bootstrap, acks="all", idempotent=True, **options) as producer:
        for records, timed in ((WARM, False), (count, True)):
            if timed:
                watch.start()
            for _ in range(records):
                producer.send(topic, VALUE)
            producer.flush()
        watch.stop()


async def produce_ottla_aio(bootstrap: str, topic: str, count: int) -> None:
    """Ours, under asyncio."""
    import ottla.aio

    watch = Stopwatch()
    options: Any = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES}
    async with ottla.aio.Producer(bootstrap, acks="all", idempotent=True, **options) as producer:
        for records, timed in ((WARM, False), (count, True)):
            if timed:
                watch.start()
            for _ in range(records):
                await producer.send(topic, VALUE)
            await producer.flush()
        watch.stop()


def produce_confluent(bootstrap: str, topic: str, count: int) -> None:
    """librdkafka by confluent-kafka."""
    from confluent_kafka import Producer

    watch = Stopwatch()
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for records, timed in ((WARM, False), (count, True)):
        if timed:
            watch.start()
        for _ in range(records):
            while True:
                try:
                    producer.produce(topic, VALUE)
                    break
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0)
        if producer.flush(TIMEOUT_S):
            raise RuntimeError("not everything was sent")
    watch.stop()


async def produce_aiokafka(bootstrap: str, topic: str, count: int) -> None:
    """aiokafka."""
    from aiokafka import AIOKafkaProducer

    watch = Stopwatch()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        max_batch_size=BATCH_BYTES,
    )
    await producer.start()
    for records, timed in ((WARM, False), (count, True)):
        if timed:
            watch.start()
        for _ in range(records):
            await producer.send(topic, VALUE)
        await producer.flush()
    watch.stop()
    await producer.stop()


# Consumers. Each reads ``count`` records and more than that were written.


def consume_ottla(bootstrap: str, topic: str, count: int) -> None:
    """Ours."""
    import ottla

    watch = Stopwatch()
    with ottla.Consumer(bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([(topic, 0)])
        seen = 0
        while seen < WARM:
            seen += _sizes(consumer.poll(1.0, max_records=POLL_RECORDS))
        watch.start()
        while seen < count + WARM:
            seen += _sizes(consumer.poll(1.0, max_records=POLL_RECORDS))
        watch.stop()


async def consume_ottla_aio(bootstrap: str, topic: str, count: int) -> None:
    """Ours, under asyncio."""
    import ottla.aio

    watch = Stopwatch()
    async with ottla.aio.Consumer(bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        await consumer.assign([(topic, 0)])
        seen = 0
        while seen < WARM:
            seen += _sizes(await consumer.poll(1.0, max_records=POLL_RECORDS))
        watch.start()
        while seen < count + WARM:
            seen += _sizes(await consumer.poll(1.0, max_records=POLL_RECORDS))
        watch.stop()


def consume_confluent(bootstrap: str, topic: str, count: int) -> None:
    """librdkafka by confluent-kafka."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    watch = Stopwatch()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "check.crcs": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])

    def read() -> int:
        messages = consumer.consume(POLL_RECORDS, 1.0)
        for message in messages:
            if message.error() is not None or len(message.value() or b"") != len(VALUE):
                raise RuntimeError(f"an unexpected record: {message.error()}")
        return len(messages)

    seen = 0
    while seen < WARM:
        seen += read()
    watch.start()
    while seen < count + WARM:
        seen += read()
    watch.stop()
    consumer.close()


async def consume_aiokafka(bootstrap: str, topic: str, count: int) -> None:
    """aiokafka."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    watch = Stopwatch()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, check_crcs=True
    )
    await consumer.start()
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)

    async def read() -> int:
        found = await consumer.getmany(timeout_ms=1000, max_records=POLL_RECORDS)
        return sum(_sizes(records) for records in found.values())

    seen = 0
    while seen < WARM:
        seen += await read()
    watch.start()
    while seen < count + WARM:
        seen += await read()
    watch.stop()
    await consumer.stop()


def _sizes(records: list[Any]) -> int:
    for record in records:
        if len(record.value) != len(VALUE):
            raise RuntimeError("an unexpected record")
    return len(records)


_RUNS: dict[tuple[str, str], Callable[[str, str, int], Any]] = {
    ("produce", "ottla"): produce_ottla,
    ("produce", "ottla.aio"): produce_ottla_aio,
    ("produce", "confluent-kafka"): produce_confluent,
    ("produce", "aiokafka"): produce_aiokafka,
    ("consume", "ottla"): consume_ottla,
    ("consume", "ottla.aio"): consume_ottla_aio,
    ("consume", "confluent-kafka"): consume_confluent,
    ("consume", "aiokafka"): consume_aiokafka,
}


def _client(arguments: list[str]) -> None:
    """``client WHAT CLIENT BOOTSTRAP TOPIC COUNT``: prints the seconds and the CPU seconds."""
    what, name, bootstrap, topic, count = arguments
    run = _RUNS[what, name]
    if asyncio.iscoroutinefunction(run):
        asyncio.run(run(bootstrap, topic, int(count)))
    else:
        run(bootstrap, topic, int(count))


def measure(what: str, name: str, port: int, topic: str, count: int, figures: Figures) -> float:
    """One client's turn; returns its records a second."""
    command = [sys.executable, "-m", "bench.clients", "client", what, name, f"127.0.0.1:{port}"]
    done = subprocess.run(
        [*command, topic, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    took, cpu = map(float, done.stdout.split())
    figures[f"{what}|records/s|{name}"].append(count / took)
    figures[f"{what}|CPU s|{name}"].append(cpu / count * 1e6)
    return count / took


def measure_round(port: int, what: str, number: int, count: int, figures: Figures) -> None:
    """All clients, one after the other, each round beginning with another one."""
    first = number % len(CLIENTS)
    rates: dict[str, float] = {}
    for place, name in enumerate(CLIENTS[first:] + CLIENTS[:first]):
        topic = READ_TOPIC
        if what == "produce":
            topic = f"written-{number}-{place}"
            create(port, topic)
        rates[name] = measure(what, name, port, topic, count, figures)
    for ours in CLIENTS[:2]:
        for other in CLIENTS[2:]:
            figures[f"{what}|x|{ours} / {other}"].append(rates[ours] / rates[other])


def create(port: int, topic: str) -> None:
    """A topic of one partition."""
    connection = Connection(port)
    require_no_error(connection.answer(create_topic_frame(topic)).topics[0].error_code)
    connection.close()


def main() -> None:
    """Measure, alternating, and print."""
    if sys.argv[1:2] == ["client"]:
        _client(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--only", default="", choices=("", "produce", "consume"))
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    kinds = [what for what in ("produce", "consume") if options.only in ("", what)]
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        port = free_port()
        with broker(Path(directory) / "data", port):
            if "consume" in kinds:
                create(port, READ_TOPIC)
                measure(
                    "produce", "ottla", port, READ_TOPIC, options.records + WARM, defaultdict(list)
                )
            for number in range(options.rounds):
                for what in kinds:
                    measure_round(port, what, number, options.records, figures)
    report(kinds, figures, options.records, options.rounds)


def report(kinds: list[str], figures: Figures, count: int, rounds: int) -> None:
    """Print what was measured."""
    from ottla.records.chosen_loops import choice

    print(f"our record codec: {choice}")
    goals = {f"{ours} / aiokafka": GOAL for ours in CLIENTS[:2]}
    for what in kinds:
        for unit, title, digits in (
            ("records/s", f"{what}, {count:,} records, {rounds} rounds", 0),
            ("CPU s", "  CPU seconds of the client, a million records", 2),
            ("x", "  times as many records a second, the same round", 1),
        ):
            head = f"{what}|{unit}|"
            part = {n.removeprefix(head): v for n, v in figures.items() if n.startswith(head)}
            table(title, dict(sorted(part.items())), unit, digits, goals)


if __name__ == "__main__":
    main()
