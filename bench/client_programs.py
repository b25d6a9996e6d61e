"""The programs that ``clients`` and ``peers.clients`` measure: one client each, producing or consuming.

    python -m bench.client_programs WHAT CLIENT BOOTSTRAP TOPIC COUNT

All send the same: values of 100 bytes without a key to a topic of one partition, ``acks=all`` and idempotence on,
5 ms to linger, batches of up to 128 KiB, no compression. The shape of the call is each client's own for "send
without waiting, then flush": ``send`` (ours, kafka-python, Java), ``produce`` with ``poll(0)`` (confluent-kafka),
``await send`` without awaiting what it returns (aiokafka, and ours under asyncio). Nobody looks at what became of a record:
whoever runs these asks the broker how many it has. Reading: the whole topic by
assignment, from its start, in a poll loop that looks at every value's length: ``poll(max_records=500)`` (ours and
kafka-python; ``max.poll.records`` in Java), ``consume(500)`` (confluent-kafka), ``getmany(max_records=500)``
(aiokafka), checksums verified by all of them.

The clock runs from the first ``send`` to the end of ``flush``, after ``WARM`` records that warmed up; for a consumer
from its first ``WARM`` records to its last. CPU seconds are those of the client's process in that time. Java's
program is ``tests/interop/java/src/MeasuredClient.java``, which warms up with as many records as it is measured with.
"""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

VALUE = bytes(range(100))
WARM = 1_000
BATCH_BYTES = 128 * 1024
LINGER_MS = 5
POLL_RECORDS = 500
TIMEOUT_S = 120
JAVA = "Java"
FETCH_BYTES = "BENCH_FETCH_BYTES"
"""An environment variable for our consumers: so much of a partition a Fetch, in the place of their default."""


class Taken(NamedTuple):
    """What a client took for so many records."""

    seconds: float
    cpu_seconds: float


def run(
    what: str,
    name: str,
    bootstrap: str,
    topic: str,
    count: int,
    *,
    begun: Callable[[int], object] = lambda pid: None,
    stopped: Callable[[Taken], object] = lambda taken: None,
    **environment: str,
) -> Taken:
    """Have a process of its own ``produce`` or ``consume`` so many records by the client ``name``.

    ``begun`` is told the process's id; ``stopped`` what it took, when it has stopped its clock and before it ends.
    Raises ``CalledProcessError`` where it fails.
    """
    if name == JAVA:
        command = _java(what, bootstrap, topic, count)
    else:
        command = [sys.executable, "-m", "bench.client_programs", what, name]
        command += [bootstrap, topic, str(count)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        begun(process.pid)
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], TIMEOUT_S)[0]:
            raise subprocess.TimeoutExpired(command, TIMEOUT_S)
        output = process.stdout.readline()
        if output:
            taken = Taken(*map(float, output.split()))
            stopped(taken)
        process.wait(TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode or not output:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return taken


def needed(what: str, name: str, count: int) -> int:
    """How many records a topic must have, or will have, for ``count`` of them to be measured."""
    return 2 * count if name == JAVA else count + WARM


def _java(what: str, bootstrap: str, topic: str, count: int) -> list[str]:
    """Java's own options but for the log: both its compilers, and the heap that it chooses."""
    from tests.support.java import LOGGING, classes, jars, program

    command = [program("java", "default-jdk-headless"), f"-Dlog4j2.configurationFile={LOGGING}"]
    command += ["-cp", f"{classes()}:{jars()}/*", "MeasuredClient", what, bootstrap, topic]
    return [*command, str(count), str(BATCH_BYTES), str(LINGER_MS), str(POLL_RECORDS)]


class Stopwatch:
    """Seconds and this process's CPU seconds between ``start`` and ``stop``."""

    def start(self) -> None:
        """Begin."""
        self._begin, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End, and print both for the process that asked."""
        print(time.perf_counter() - self._begin, time.process_time() - self._cpu, flush=True)


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
    from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]

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


def produce_kafka_python(bootstrap: str, topic: str, count: int) -> None:
    """kafka-python."""
    from kafka import KafkaProducer  # type: ignore[import-untyped]

    watch = Stopwatch()
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        batch_size=BATCH_BYTES,
    )
    for records, timed in ((WARM, False), (count, True)):
        if timed:
            watch.start()
        for _ in range(records):
            producer.send(topic, VALUE)
        producer.flush()
    watch.stop()
    producer.close()


# Consumers. Each reads ``count`` records and more than that were written.


def consume_ottla(bootstrap: str, topic: str, count: int) -> None:
    """Ours."""
    import ottla

    watch = Stopwatch()
    options: Any = {"auto_offset_reset": "earliest", **_fetch_bytes()}
    with ottla.Consumer(bootstrap=bootstrap, **options) as consumer:
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
    options: Any = {"auto_offset_reset": "earliest", **_fetch_bytes()}
    async with ottla.aio.Consumer(bootstrap=bootstrap, **options) as consumer:
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
            # It waits a second by default where 100,000 records lie ready, and is out of them long before.
            "fetch.queue.backoff.ms": 10,
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


def consume_kafka_python(bootstrap: str, topic: str, count: int) -> None:
    """kafka-python."""
    from kafka import KafkaConsumer, TopicPartition

    watch = Stopwatch()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=True,
    )
    consumer.assign([TopicPartition(topic, 0)])

    def read() -> int:
        found = consumer.poll(timeout_ms=1000, max_records=POLL_RECORDS)
        return sum(_sizes(records) for records in found.values())

    seen = 0
    while seen < WARM:
        seen += read()
    watch.start()
    while seen < count + WARM:
        seen += read()
    watch.stop()
    consumer.close()


def _fetch_bytes() -> dict[str, int]:
    """Our consumers' option, where ``FETCH_BYTES`` is set."""
    size = os.environ.get(FETCH_BYTES)
    return {} if size is None else {"max_partition_fetch_bytes": int(size)}


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
    ("produce", "kafka-python"): produce_kafka_python,
    ("consume", "ottla"): consume_ottla,
    ("consume", "ottla.aio"): consume_ottla_aio,
    ("consume", "confluent-kafka"): consume_confluent,
    ("consume", "aiokafka"): consume_aiokafka,
    ("consume", "kafka-python"): consume_kafka_python,
}


def main() -> None:
    """``WHAT CLIENT BOOTSTRAP TOPIC COUNT``: prints the seconds and the CPU seconds."""
    what, name, bootstrap, topic, count = sys.argv[1:]
    program = _RUNS[what, name]
    if asyncio.iscoroutinefunction(program):
        asyncio.run(program(bootstrap, topic, int(count)))
    else:
        program(bootstrap, topic, int(count))


if __name__ == "__main__":
    main()
