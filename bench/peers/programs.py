"""Programs that no one here wrote, end to end against each broker: Kafka's own, librdkafka's and confluent-kafka.

Each is a process beside the broker, on the same processors, with its own defaults but for acks and the codec (and for
what ``NOTES`` say of librdkafka's consumers), and a topic of one partition. The rates are what the programs say, after
what warms them up where they can leave that out; a broker's CPU seconds are of all that was moved. MB are of 10^6 bytes
of values. What is read lies in batches of 16 KiB, the same bytes for everybody.

``client busy`` says which part of a processor the program's busiest thread took, ``machine busy`` which part of all
processors it and the broker took together (``bench.peers.watching``).
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.peers import requests
from bench.peers.brokers import settle, topic_name, warm
from bench.peers.cells import (
    APACHE_KAFKA,
    CLIENT_BUSY,
    MACHINE_BUSY,
    OURS,
    Cell,
    Goal,
    Sample,
    Setting,
)
from bench.peers.floors import FLOOR_NAMES, serve, write_and_send
from bench.peers.load import replay
from bench.peers.products import Running
from bench.peers.tansu import NOTE, TANSU, beside_tansu
from bench.peers.tools import (
    CONFLUENT_CONSUMER,
    CONFLUENT_PRODUCER,
    JAVA_CONSUMER,
    JAVA_PRODUCER,
    RDKAFKA_CONSUMER,
    RDKAFKA_PRODUCER,
    Program,
    Task,
    Told,
)
from bench.peers.watching import Busy, Watch, cores

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 90.0
BATCH_BYTES = 16_384
MB = 1e6
GB = 1e9
CONSUMERS = (JAVA_CONSUMER, RDKAFKA_CONSUMER, CONFLUENT_CONSUMER)
SIZES = {"1KB": 1_000, "100B": 100}
SIZE_TITLES = {"1KB": "1 KB", "100B": "100 B"}


class Work(NamedTuple):
    """A cell's work."""

    program: Program
    size: str
    records: int
    acks: int = 1
    codec: str = "none"

    @property
    def reads(self) -> bool:
        """Whether it consumes."""
        return self.program in CONSUMERS

    @property
    def name(self) -> str:
        """The cell's."""
        parts = ["programs", self.program.name.replace(", ", "-").replace(" -", "-"), self.size]
        if not self.reads:
            parts.append("acks-all" if self.acks == -1 else f"acks-{self.acks}")
        return "/".join([*parts, self.codec])

    @property
    def title(self) -> str:
        """The row's."""
        acks = "" if self.reads else f", acks={'all' if self.acks == -1 else self.acks}"
        return f"{self.program.name}: {SIZE_TITLES[self.size]} records{acks}, {self.codec}"


WORKS = (
    Work(JAVA_PRODUCER, "1KB", 400_000, 1),
    Work(JAVA_PRODUCER, "1KB", 400_000, -1),
    Work(JAVA_PRODUCER, "1KB", 500_000, -1, "lz4"),
    Work(JAVA_PRODUCER, "100B", 3_000_000, 1),
    Work(JAVA_PRODUCER, "100B", 3_000_000, -1, "lz4"),
    Work(JAVA_CONSUMER, "1KB", 1_000_000),
    Work(JAVA_CONSUMER, "1KB", 1_000_000, 1, "lz4"),
    Work(JAVA_CONSUMER, "100B", 5_000_000),
    Work(RDKAFKA_PRODUCER, "1KB", 1_000_000, 1),
    Work(RDKAFKA_PRODUCER, "100B", 4_000_000, -1),
    Work(RDKAFKA_CONSUMER, "1KB", 1_000_000),
    Work(RDKAFKA_CONSUMER, "100B", 5_000_000),
    Work(CONFLUENT_PRODUCER, "1KB", 600_000, -1, "lz4"),
    Work(CONFLUENT_CONSUMER, "1KB", 1_000_000, 1, "lz4"),
)
NOTES = (
    "ProducerPerformance is idempotent with acks=all, as Kafka's producer is by default; its records and "
    "confluent-kafka's are chosen from 1,000 lines (--payload-file). rdkafka_performance repeats one text, and its "
    "consumer's clock starts at its first message.",
    "librdkafka's consumers (rdkafka_performance -C, confluent-kafka) have `fetch.queue.backoff.ms` 10 in the place of 1,000: "
    "with their default they wait for a second whenever as much lies ready as they hold, and that wait would be measured, "
    "no broker.",
    "The broker and the program share the machine's processors. What a producer says that it sent has been looked for in "
    "the partition.",
)
SHORT = (
    "After a producer's run the partition's end offset is asked for, and a broker that has fewer records than it was sent fails the "
    f"cell. {TANSU} is let off: it was seen to have some fewer than rdkafka_performance had acknowledged."
)


class Stock:
    """The topic of each broker that is there to be read; made when first wanted, in the place of the one before."""

    def __init__(self) -> None:
        self._topics: dict[str, tuple[Work, str]] = {}

    def topic(self, running: Running, work: Work) -> str:
        """Its name."""
        known, topic = self._topics.get(running.bootstrap, (None, ""))
        if known is None or (known.size, known.codec) != (work.size, work.codec):
            if known is not None:
                self._topics.pop(running.bootstrap)
                running.delete_topic(topic)
            topic = fill(running, SIZES[work.size], work.codec, work.records)
            self._topics[running.bootstrap] = work, topic
        return topic


def fill(running: Running, record_bytes: int, codec: str, records: int) -> str:
    """A new topic with at least so many records."""
    topic = topic_name()
    ports = running.create_topic(topic)
    batch = requests.batch(record_bytes, BATCH_BYTES, codec)
    count = -(-records // max(1, BATCH_BYTES // (record_bytes + 10)))
    frame = requests.produce(topic, [(0, batch)], 1, ports[0])
    warm(count * len(batch))
    outcome = replay([frame], "produce", depth=5, seconds=DEADLINE_S, requests=count)
    if outcome.requests < count:
        raise TimeoutError(f"{running.name}: {outcome.requests} of {count} batches are there")
    settle()
    return topic


def run(program: Program, task: Task, running: Running) -> tuple[Told, Busy]:
    """Have a program do its task, and see what it does. Raises ``RuntimeError`` where it did not do all of it."""
    process = subprocess.Popen(
        program.command(task),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
    )
    watch = Watch(process.pid, running.pids())
    try:
        output, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        busy = watch.end()
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"{program.name} ended with {process.returncode}: {output[-1000:]}")
    told = program.told(output)
    if told.records < task.records:
        raise RuntimeError(f"{program.name} did {told.records} of {task.records}: {output[-1000:]}")
    return told, busy


def measure(running: Running, *, work: Work, stock: Stock) -> Sample:
    """Run the program once, with a new topic, or with the stock."""
    if work.reads:
        topic = stock.topic(running, work)
    else:
        topic = topic_name()
        running.create_topic(topic)
        warm(work.records * SIZES[work.size])
    task = Task(running.bootstrap, topic, SIZES[work.size], work.records, work.acks, work.codec)
    before = running.cpu_seconds()
    told, busy = run(work.program, task, running)
    cpu = running.cpu_seconds() - before
    size = running.pss_mb()
    if not work.reads:
        if running.name != TANSU:  # which is judged by nothing, and falls short (``SHORT``)
            require_written(running, topic, work.records)
        running.delete_topic(topic)
    return {**sample(task, told, busy, cpu), "PSS MB": size}


def require_written(running: Running, topic: str, records: int) -> None:
    """Raise ``RuntimeError`` where the partition has fewer than the producer was to write. A repeated batch may be more."""
    end = running.end_offset(topic)
    if end < records:
        raise RuntimeError(f"{running.name} has {end} of {records} records")


def sample(task: Task, told: Told, busy: Busy, cpu: float) -> Sample:
    """The figures of a run."""
    return {
        "MB/s": told.records_per_s * task.record_bytes / MB,
        "CPU s/GB": cpu / (task.records * task.record_bytes / GB),
        "records/s": told.records_per_s,
        "broker's busiest thread": busy.broker_thread,
        "client's busiest thread": busy.client_thread,
        "client's processors": busy.client,
        CLIENT_BUSY: busy.client_thread,
        MACHINE_BUSY: busy.machine(cores()),
    }


def goal() -> Goal:
    """As fast, or the program is the limit and the broker takes half."""
    bound = Goal("CPU s/GB", at_most=0.5)
    return Goal("MB/s", at_least=1.0, when_client_bound=bound)


def cells() -> list[Cell]:
    """A cell for each work."""
    stock = Stock()
    found = []
    for work in WORKS:
        with_tansu = work.program is RDKAFKA_PRODUCER
        found.append(
            Cell(
                name=work.name,
                table="Programs that no one here wrote, end to end",
                title=work.title,
                durability="os",
                contestants=(OURS, APACHE_KAFKA, *((TANSU,) if with_tansu else ())),
                measure=partial(measure, work=work, stock=stock),
                goals=(goal(),),
                floor=serve if work.reads else write_and_send,
                floor_name=FLOOR_NAMES["fetch" if work.reads else "produce"],
                notes=(*NOTES, NOTE, SHORT) if with_tansu else NOTES,
                parameters={"record bytes": SIZES[work.size], "lz4": float(work.codec == "lz4")},
            )
        )
    return found


def settings() -> list[Setting]:
    """One: brokers beside each other, the page cache on both sides."""
    return [Setting("programs", beside_tansu, tuple(cells()))]
