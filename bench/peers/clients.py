"""What a producer and a consumer take and give: ours beside others', each a process of its own, in turn.

The programs are those of ``bench.client_programs``: values of 100 bytes, one partition, the same guarantee
(``acks=all``, idempotent), each client in its own shape of call. They run against Ottla and, in a second setting,
against Apache Kafka, so that no client is only fast with the broker that it was made beside. How many records a client
is given depends on how fast it is, so that all of them work for about as long; a rate is one of many batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from bench import client_programs
from bench.client_programs import JAVA
from bench.peers.brokers import WARM_UP_S, settle, topic_name, warm, work_a_while
from bench.peers.cells import CLIENT_BUSY, MACHINE_BUSY, Cell, Goal, Sample, Setting
from bench.peers.products import ApacheKafka, Ottla, Product, Running
from bench.peers.watching import Busy, Watch, cores

SYNC = "ottla"
AIO = "ottla.aio"
CONFLUENT = "confluent-kafka"
AIOKAFKA = "aiokafka"
KAFKA_PYTHON = "kafka-python"
INTERPRETED = ", interpreted"
AS_OTHERS_FETCH = ", Fetches of 1 MiB"
OTHERS_FETCH_BYTES = 1 << 20
RECORD_BYTES = 112
"""What a record takes in its batch."""

COUNTS = {
    "produce": {SYNC: 1_000_000, AIO: 1_000_000, CONFLUENT: 600_000, JAVA: 1_000_000},
    "consume": {SYNC: 3_000_000, AIO: 3_000_000, CONFLUENT: 1_000_000, JAVA: 2_000_000},
}
NOTES = {
    "produce": (
        "All linger for 5 ms and make batches of up to 128 KiB, uncompressed. confluent-kafka may hold 1,000,000 messages "
        "(`queue.buffering.max.messages`, 100,000 by default: it is faster so), and calls `poll(0)` for each record, as its "
        "documentation has it, though nobody waits for what it reports. All else is each client's default.",
        "No program looks at what became of its records; the broker is asked whether it has all of them.",
    ),
    "consume": (
        "Settings are each client's defaults: a Fetch asks for 2 MiB of a partition for Ottla's consumers and 1 MiB for the "
        f"others (`max.partition.fetch.bytes`); `{SYNC}{AS_OTHERS_FETCH}` asks for as much as they do. confluent-kafka has "
        "`fetch.queue.backoff.ms` 10 in the place of 1,000, since it would wait for a second whenever 100,000 records lie "
        "ready, and `check.crcs`, which it leaves out by default and which costs it time: all verify checksums.",
    ),
}
COUNT_SLOW = {"produce": 200_000, "consume": 600_000}
"""Of all others."""


class Stock:
    """A broker with a topic that is there to be read, made when it is first wanted."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self._topic = ""

    def topic(self) -> str:
        """Its name."""
        if not self._topic:
            count = max(
                client_programs.needed("consume", name, count)
                for name, count in COUNTS["consume"].items()
            )
            topic = topic_name()
            self.running.create_topic(topic)
            warm(count * RECORD_BYTES)
            client_programs.run("produce", SYNC, self.running.bootstrap, topic, count)
            settle()
            self._topic = topic
        return self._topic


@dataclass(frozen=True)
class Client:
    """A contestant: a client that is to work against a broker."""

    name: str
    stock: Stock
    environment: Mapping[str, str] = field(default_factory=dict)
    parts: int = 1
    """It is given one of so many parts of what its name is given."""

    def measure(self, what: str) -> Sample:
        """Its rate, and what its process took."""
        running = self.stock.running
        count = COUNTS[what].get(self.name, COUNT_SLOW[what])
        count //= self.parts
        if what == "consume":
            topic = self.stock.topic()
        else:
            topic = topic_name()
            running.create_topic(topic)
            warm(client_programs.needed(what, self.name, count) * RECORD_BYTES)
        before = running.cpu_seconds()
        taken, busy = self._run(what, topic, count)
        broker_cpu = running.cpu_seconds() - before
        broker_mb = running.pss_mb()
        if what == "produce":
            require_written(running, topic, client_programs.needed(what, self.name, count))
            running.delete_topic(topic)
        return {
            "records/s": count / taken.seconds,
            "CPU us/record": taken.cpu_seconds / count * 1e6,
            CLIENT_BUSY: busy.client_thread,
            MACHINE_BUSY: busy.machine(cores()),
            "broker CPU us/record": broker_cpu
            / client_programs.needed(what, self.name, count)
            * 1e6,
            "broker PSS MB": broker_mb,
        }

    def _run(self, what: str, topic: str, count: int) -> tuple[client_programs.Taken, Busy]:
        """Have its process work, and see whose processors are full."""
        running = self.stock.running
        watches: list[Watch] = []
        seen: list[Busy] = []
        try:
            taken = client_programs.run(
                what,
                self.name,
                running.bootstrap,
                topic,
                count,
                begun=lambda pid: watches.append(Watch(pid, running.pids())),
                stopped=lambda taken: seen.append(watches[0].end(last_s=taken.seconds)),
                **self.environment,
            )
        finally:
            for watch in watches:
                watch.end()
        return taken, seen[0]


def require_written(running: Running, topic: str, records: int) -> None:
    """Raise ``RuntimeError`` where an idempotent producer has not had each of its records written, once."""
    end = running.end_offset(topic)
    if end != records:
        raise RuntimeError(f"{running.name} has {end} records where {records} were sent")


CONTESTANTS = (
    SYNC,
    AIO,
    SYNC + INTERPRETED,
    AIO + INTERPRETED,
    CONFLUENT,
    AIOKAFKA,
    KAFKA_PYTHON,
    JAVA,
)


@contextmanager
def beside(product: Product) -> Iterator[dict[str, Client]]:
    """The clients of a broker that is warmed up."""
    with product.running("os") as running:
        work_a_while(running, WARM_UP_S if isinstance(product, ApacheKafka) else 1.0)
        stock = Stock(running)
        found = {name: client_of(name, stock) for name in (*CONTESTANTS, SYNC + AS_OTHERS_FETCH)}
        yield found


def client_of(name: str, stock: Stock) -> Client:
    """The contestant of that name."""
    if name.endswith(INTERPRETED):
        return Client(name.removesuffix(INTERPRETED), stock, {"OTTLA_INTERPRETED": "1"}, parts=3)
    if name.endswith(AS_OTHERS_FETCH):
        as_others = {client_programs.FETCH_BYTES: str(OTHERS_FETCH_BYTES)}
        return Client(name.removesuffix(AS_OTHERS_FETCH), stock, as_others)
    return Client(name, stock)


def _measure(client: Client, *, what: str) -> Sample:
    return client.measure(what)


def cells(broker: str) -> list[Cell]:
    """Producing to a broker, and consuming from it."""
    return [
        Cell(
            name=f"clients/{broker}/{what}",
            table=f"Clients: {what}, 100 B records, one partition",
            title=f"against {title}",
            durability="os",
            contestants=CONTESTANTS
            if what == "produce"
            else (*CONTESTANTS, SYNC + AS_OTHERS_FETCH),
            measure=partial(_measure, what=what),
            goals=(
                Goal("records/s", at_least=1.0, against=CONFLUENT),
                Goal("records/s", at_least=5.0, against=AIOKAFKA),
                Goal("records/s", at_least=5.0, against=AIOKAFKA, ours=AIO),
            ),
            notes=NOTES[what],
        )
        for what in ("produce", "consume")
        for title in ({"ottla": "Ottla", "kafka": "Apache Kafka"}[broker],)
    ]


def settings() -> list[Setting]:
    """The same clients against either broker."""
    return [
        Setting("clients of Ottla", partial(beside, Ottla()), tuple(cells("ottla"))),
        Setting("clients of Apache Kafka", partial(beside, ApacheKafka()), tuple(cells("kafka"))),
    ]
