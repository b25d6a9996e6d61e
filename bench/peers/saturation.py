"""What a broker takes and gives at most: prebuilt batches, several requests on their way on several connections.

Batches are of 16 KiB before compression, the default of Java's producer; a request has one for each partition. Four
connections with five requests each on their way, as four producers have; for reading, four consumers that share the
partitions (one partition: each reads all of it), with consumers' default sizes. A run ends after ``VOLUME`` bytes.
Beside each stands what the machine itself takes for the bytes: a write to the page cache and a send, or a read of it
and a send; requests of 1 MB are to be within twice that.
"""

from __future__ import annotations

from functools import partial
from itertools import product

from bench.peers import requests
from bench.peers.brokers import topic_name, warm
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, FLOOR, OURS, Cell, Goal, Sample, Setting
from bench.peers.floors import serve, write_and_send
from bench.peers.load import LoadFrame, Outcome, replay
from bench.peers.products import Running
from bench.peers.tansu import NOTE, TANSU, beside_tansu

CONNECTIONS = 4
DEPTH = 5
BATCH_BYTES = 16_384
VOLUME = 500_000_000
SECONDS_MAX = 8.0
FETCH_SECONDS = 1.0
SIZES = {"100B": 100, "1KB": 1_000, "10KB": 10_000}
CODECS = ("none", "lz4")
BESIDE_TANSU = ("1KB", 1, "none")
"""Where Tansu stands beside: it has no other way to keep them than in memory, so once is enough."""
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


def produce_frames(
    topic: str, ports: list[int], batch: bytes, acks: int = 1
) -> tuple[list[LoadFrame], int]:
    """A request for all partitions of a broker; and how many bytes of batches it has."""
    frame = requests.produce(topic, [(index, batch) for index in range(len(ports))], acks, ports[0])
    return [frame], len(batch) * len(ports)


def measure_produce(running: Running, *, batch: tuple[int, int, str], partitions: int) -> Sample:
    """Produce ``VOLUME`` bytes with acks=1 to a new topic. ``batch`` is what ``requests.batch`` takes."""
    topic = topic_name()
    ports = running.create_topic(topic, partitions)
    frames, size = produce_frames(topic, ports, requests.batch(*batch))
    warm(VOLUME)
    before = running.cpu_seconds()
    outcome = replay(
        frames,
        "produce",
        connections=CONNECTIONS,
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
            replay(frames, "produce", depth=DEPTH, seconds=60, requests=VOLUME // size)
            self._topics[key] = topic, ports
        return self._topics[key]


def measure_fetch(
    running: Running, *, stock: Stock, batch: tuple[int, int, str], partitions: int
) -> Sample:
    """Read a topic out of the page cache, again and again."""
    topic, ports = stock.topic(running, batch, partitions)
    shares = [list(range(partitions))[i::CONNECTIONS] or [0] for i in range(CONNECTIONS)]
    frames = [requests.fetch(topic, share, ports[0]) for share in shares]
    before = running.cpu_seconds()
    outcome = replay(frames, "fetch", connections=CONNECTIONS, seconds=FETCH_SECONDS)
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
        shape = {"record bytes": size, "partitions": partitions, "lz4": float(codec == "lz4")}
        produce = partial(measure_produce, batch=batch, partitions=partitions)
        fetch = partial(measure_fetch, stock=stock, batch=batch, partitions=partitions)
        for what, measure, floor in (("produce", produce, write_and_send), ("fetch", fetch, serve)):
            found.append(
                Cell(
                    name=f"saturation/{what}/{label}/{partitions}p/{codec}",
                    table=f"Saturation: {what}, batches of 16 KiB",
                    title=title,
                    durability="os",
                    contestants=(*both, TANSU) if with_tansu else both,
                    measure=measure,
                    goals=goals,
                    floor=floor,
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


def settings() -> list[Setting]:
    """One: brokers beside each other, the page cache on both sides."""
    return [Setting("saturation", beside_tansu, tuple(cells()))]
