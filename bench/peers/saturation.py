"""What a broker takes and gives at most: prebuilt batches, several requests on their way on several connections.

Batches are of 16 KiB before compression, the default of Java's producer; a request has one for each partition. Four
connections with five requests each on their way, as four producers have; for reading, four consumers that share the
partitions (one partition: each reads all of it), with consumers' default sizes. A run ends after ``VOLUME`` bytes.
Beside each stands what the machine itself takes for the bytes: a write to the page cache and a send, or a read of it
and a send; requests of 1 MB are to be within twice that.

With 12 partitions ours is run in two ways, and each is judged: one process, and ``--brokers 2``, a process for each of two
processors, both of which Apache Kafka's threads have, too. There each producer and each consumer has a connection to
each broker that leads something of what it asks for, as clients have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product

from bench.peers import requests
from bench.peers.brokers import settle, topic_name, warm
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, FLOOR, OURS, Cell, Goal, Sample, Setting
from bench.peers.floors import FLOOR_NAMES, serve, write_and_send
from bench.peers.load import LoadFrame, Outcome, replay
from bench.peers.products import Ottla, Running
from bench.peers.tansu import NOTE, TANSU, beside_tansu

CONNECTIONS = 4
DEPTH = 5
BATCH_BYTES = 16_384
VOLUME = 500_000_000
SECONDS_MAX = 8.0
FETCH_SECONDS = 1.5
SEVERAL = Ottla(brokers=2)
"""Ours as a process a core, shown for one size of records, where there are partitions enough for all of them."""
SEVERAL_FOR = ("1KB", 12)
SIZES = {"100B": 100, "1KB": 1_000, "10KB": 10_000}
CODECS = ("none", "lz4")
BESIDE_TANSU = ("1KB", 1, "none")
"""Where Tansu stands beside: it has no other way to keep them than in memory, so once is enough."""
FLOORS = {"produce": write_and_send, "fetch": serve}
MB = 1e6
GB = 1e9


def sample(outcome: Outcome, moved: float, cpu: float, running: Running) -> Sample:
    """The figures of a run that moved so many bytes of batches for so many of the broker's CPU seconds."""
    return {
        "MB/s": moved / MB / outcome.seconds,
        "CPU s/GB": cpu / (moved / GB),
        CLIENT_BUSY: outcome.client_busy,
        "PSS MB": running.pss_mb(),
    }


def led_by(ports: Sequence[int], partitions: Iterable[int]) -> dict[int, list[int]]:
    """Which of these partitions each broker leads, by its port. ``ports`` has each partition's leader."""
    led: dict[int, list[int]] = {}
    for index in partitions:
        led.setdefault(ports[index], []).append(index)
    return led


def produce_frames(
    topic: str, ports: Sequence[int], batch: bytes, acks: int = 1
) -> tuple[list[LoadFrame], int]:
    """A request to each broker for all partitions that it leads; and how many bytes of batches each of them has."""
    led = led_by(ports, range(len(ports)))
    if len({len(mine) for mine in led.values()}) > 1:
        raise RuntimeError(f"{topic}: the leaders are not spread evenly: {ports}")
    frames = [
        requests.produce(topic, [(index, batch) for index in mine], acks, port)
        for port, mine in led.items()
    ]
    return frames, len(batch) * len(ports) // len(frames)


def fetch_frames(topic: str, ports: Sequence[int]) -> list[LoadFrame]:
    """A Fetch of each of ``CONNECTIONS`` consumers to each broker that leads some of its share of the partitions."""
    everything = range(len(ports))
    shares = [everything[first::CONNECTIONS] or everything for first in range(CONNECTIONS)]
    return [
        requests.fetch(topic, mine, port)
        for share in shares
        for port, mine in led_by(ports, share).items()
    ]


def measure_produce(
    running: Running, *, batch: tuple[int, int, str], partitions: int, acks: int = 1
) -> Sample:
    """Produce ``VOLUME`` bytes to a new topic. ``batch`` is what ``requests.batch`` takes."""
    topic = topic_name()
    ports = running.create_topic(topic, partitions)
    frames, size = produce_frames(topic, ports, requests.batch(*batch), acks)
    warm(VOLUME)
    before = running.cpu_seconds()
    outcome = replay(
        frames,
        "produce",
        connections=CONNECTIONS * len(frames),
        depth=DEPTH,
        seconds=SECONDS_MAX,
        requests=VOLUME // size,
    )
    cpu = running.cpu_seconds() - before
    found = sample(outcome, outcome.requests * size, cpu, running)
    running.delete_topic(topic)
    return found


class Stock:
    """Topics that are there to be read, one for each broker and kind of batch; made when first wanted."""

    def __init__(self) -> None:
        self._topics: dict[tuple[str, tuple[int, int, str], int], tuple[str, list[int]]] = {}

    def topic(
        self, running: Running, batch: tuple[int, int, str], partitions: int
    ) -> tuple[str, list[int]]:
        """Its name, and the ports of its leaders."""
        key = (running.bootstrap, batch, partitions)
        if key not in self._topics:
            for old in [k for k in self._topics if k[0] == running.bootstrap]:
                running.delete_topic(self._topics.pop(old)[0])
            topic = topic_name()
            ports = running.create_topic(topic, partitions)
            frames, size = produce_frames(topic, ports, requests.batch(*batch))
            warm(VOLUME)
            replay(
                frames,
                "produce",
                connections=len(frames),
                depth=DEPTH,
                seconds=60,
                requests=VOLUME // size,
            )
            settle()
            self._topics[key] = topic, ports
        return self._topics[key]


def measure_fetch(
    running: Running, *, stock: Stock, batch: tuple[int, int, str], partitions: int
) -> Sample:
    """Read a topic out of the page cache, again and again."""
    topic, ports = stock.topic(running, batch, partitions)
    frames = fetch_frames(topic, ports)
    before = running.cpu_seconds()
    outcome = replay(frames, "fetch", connections=len(frames), seconds=FETCH_SECONDS)
    cpu = running.cpu_seconds() - before
    return sample(outcome, outcome.record_bytes, cpu, running)


def cells() -> list[Cell]:
    """Produce and fetch for each size of records, number of partitions and codec; and requests of 1 MB."""
    found = []
    stock = Stock()
    both = (OURS, APACHE_KAFKA)
    for (label, size), partitions, codec in product(SIZES.items(), (1, 12), CODECS):
        cpu = Goal("CPU s/GB", at_most=0.7 if size == 100 else 0.5)
        goals = (Goal("MB/s", at_least=1.3), cpu)
        batch = (size, BATCH_BYTES, codec)
        where = f"{partitions} partition{'s' if partitions > 1 else ''}"
        title = f"{label} records, {where}, {codec}"
        with_tansu = (label, partitions, codec) == BESIDE_TANSU
        also = (SEVERAL.name,) if (label, partitions) == SEVERAL_FOR else ()
        shape = {"record bytes": size, "partitions": partitions, "lz4": float(codec == "lz4")}
        produce = partial(measure_produce, batch=batch, partitions=partitions)
        fetch = partial(measure_fetch, stock=stock, batch=batch, partitions=partitions)
        for what, measure in (("produce", produce), ("fetch", fetch)):
            found.append(
                Cell(
                    name=f"saturation/{what}/{label}/{partitions}p/{codec}",
                    table=f"Saturation: {what}, batches of 16 KiB",
                    title=title,
                    durability="os",
                    contestants=(*both, *also, *((TANSU,) if with_tansu else ())),
                    also=also,
                    measure=measure,
                    goals=goals,
                    floor=FLOORS[what],
                    floor_name=FLOOR_NAMES[what],
                    notes=(NOTE,) if with_tansu else (),
                    parameters=shape,
                )
            )
    found.append(
        Cell(
            name="saturation/produce/1MB-requests",
            table="Saturation: requests of 1 MB, and the machine itself",
            title="1 KB records, batches of 1 MB, 1 partition",
            durability="os",
            contestants=both,
            measure=partial(measure_produce, batch=(1_000, 1_000_000, "none"), partitions=1),
            goals=(Goal("MB/s", at_least=0.5, against=FLOOR),),
            floor=write_and_send,
        )
    )
    return found


def cells_of_defaults() -> list[Cell]:
    """What producing takes where nothing is set: unequal, shown once, and without goals."""
    batch = (1_000, BATCH_BYTES, "none")
    return [
        Cell(
            name=f"saturation/defaults/produce/1KB/{partitions}p/none",
            table="Saturation: produce, batches of 16 KiB, acks=all",
            title=f"1KB records, {partitions} partition{'s' if partitions > 1 else ''}, none",
            durability="defaults",
            contestants=(OURS, APACHE_KAFKA),
            measure=partial(measure_produce, batch=batch, partitions=partitions, acks=-1),
            floor=write_and_send,
            floor_name=FLOOR_NAMES["produce"],
        )
        for partitions in (1, 12)
    ]


def settings() -> list[Setting]:
    """One: brokers beside each other, the page cache on both sides."""
    return [Setting("saturation", partial(beside_tansu, SEVERAL), tuple(cells()))]
