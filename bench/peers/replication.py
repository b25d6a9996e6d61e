"""Three replicas, each on a broker of its own, all brokers on this machine: acks=all, ``min.insync.replicas=2``.

The leaders of twelve partitions are spread over the brokers, and a request has a batch for each that its broker leads.
Followers copy as each product has them copy; every replica is in sync at the end of a round, or the cell fails.
``os``: an acknowledged record is in three page caches. ``disk``: it was synced on every replica in sync; Kafka does
that with a sync for each append, since it has no group commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from bench.peers import requests
from bench.peers.brokers import side_by_side, topic_name, warm
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, OURS, Cell, Goal, Sample, Setting
from bench.peers.clusters import NODES, OttlaCluster, zookeeper_cpu_seconds, zookeeper_pss_mb
from bench.peers.floors import FLOOR_NAMES, synced_write_ms, write_and_send
from bench.peers.latency import RATE, percentiles
from bench.peers.load import LoadFrame, Outcome, replay
from bench.peers.products import ApacheKafka, Running
from bench.peers.small import SYNCS

REPLICAS = 3
CONFIGS = {"min.insync.replicas": "2"}
ACKS = -1
CONNECTIONS = 6
"""A multiple of the brokers: each has as many."""
DEPTH = 5
SMALL_CONNECTIONS = 16
BATCH = (1_000, 16_384, "none")
LARGE = (1_000, 1_000_000, "none")
SMALL = (100, 1, "none")
VOLUME = 300_000_000
"""Of it every broker writes as much: a gigabyte in all."""
SECONDS_MAX = 5.0
BEFORE_S = 1.5
"""Not counted: a follower of Apache Kafka's that asks before its leader knows that it leads comes again after
``replica.fetch.backoff.ms``, a second, and whoever waits for all replicas waits for it."""
SMALL_SECONDS = 3.0
LATENCY_SECONDS = 4.0
LATENCY_CONNECTIONS = 6
PART_OF_SATURATION = 0.5
SATURATING_TIMES = 10
"""At most."""
STILL_MORE = 1.1
ENOUGH_IN_A_ROW = 2
MB = 1e6
GB = 1e9


class Topic:
    """A topic with three replicas, for one measurement; deleted at its end."""

    def __init__(self, running: Running, partitions: int) -> None:
        self.running = running
        self.name = topic_name()
        self.partitions = partitions
        self.ports = running.create_topic(self.name, partitions, REPLICAS, CONFIGS)
        shares = {self.ports.count(port) for port in running.ports}
        if partitions >= NODES and len(shares) > 1:
            raise RuntimeError(f"{running.name}: the leaders are not spread evenly: {self.ports}")

    def frames(self, batch: tuple[int, int, str]) -> tuple[list[LoadFrame], int]:
        """A request to each broker that leads, all of a size; and how many bytes of batches each has."""
        encoded = requests.batch(*batch)
        led: dict[int, list[int]] = {}
        for index, port in enumerate(self.ports):
            led.setdefault(port, []).append(index)
        frames = [
            requests.produce(self.name, [(index, encoded) for index in mine], ACKS, port)
            for port, mine in led.items()
        ]
        return frames, len(encoded) * self.partitions // len(frames)

    def end(self) -> None:
        """Everybody has kept up: every replica is in sync. Then the topic goes."""
        found = self.running.in_sync(self.name)
        if found != [REPLICAS] * self.partitions:
            raise RuntimeError(f"{self.running.name}: so many replicas are in sync: {found}")
        self.running.delete_topic(self.name)


def sample(outcome: Outcome, moved: float, spent: tuple[float, float], running: Running) -> Sample:
    """The figures of a run that moved so many bytes of batches. ``spent``: CPU seconds of all, and ZooKeeper's."""
    cpu, zookeeper = spent
    found = {
        "MB/s": moved / MB / outcome.seconds,
        "requests/s": outcome.requests / outcome.seconds,
        "CPU s/GB": cpu / (moved / GB),
        "CPU us/request": cpu / outcome.requests * 1e6,
        CLIENT_BUSY: outcome.client_busy,
        "PSS MB": running.pss_mb(),
        **percentiles(outcome.requests, outcome.p50_us, outcome.p99_us, outcome.p999_us),
    }
    if running.others:
        found["ZooKeeper's CPU s"] = zookeeper
        found["ZooKeeper's PSS MB"] = zookeeper_pss_mb(running)
    return found


def measure(
    running: Running,
    *,
    batch: tuple[int, int, str],
    partitions: int,
    connections: int = CONNECTIONS,
    depth: int = DEPTH,
    seconds: float = SECONDS_MAX,
    rate: float = 0.0,
) -> Sample:
    """Produce ``VOLUME`` bytes to a new topic, or for so many seconds, once its replicas have found each other."""
    topic = Topic(running, partitions)
    frames, size = topic.frames(batch)
    before, _ = topic.frames(SMALL)
    replay(before, "produce", connections=len(before), seconds=BEFORE_S)
    if batch != SMALL:
        warm(VOLUME * REPLICAS)
    begun = running.cpu_seconds(), zookeeper_cpu_seconds(running)
    outcome = replay(
        frames,
        "produce",
        connections=connections,
        depth=depth,
        seconds=seconds,
        requests=0 if rate else VOLUME // size,
        rate=rate,
    )
    spent = running.cpu_seconds() - begun[0], zookeeper_cpu_seconds(running) - begun[1]
    found = sample(outcome, outcome.requests * size, spent, running)
    topic.end()
    return found


measure_small = partial(
    measure,
    batch=SMALL,
    partitions=1,
    connections=SMALL_CONNECTIONS,
    depth=1,
    seconds=SMALL_SECONDS,
)
"""One record a request, each connection waiting for its answer."""


class Rates:
    """At which rate latencies are measured: half of what the slower cluster took, found when the clusters are there.

    A cell that is gone on with keeps the rate of its first rounds.
    """

    def __init__(self) -> None:
        self.rate = 0.0

    def find(self, contestants: Mapping[str, Running]) -> None:
        """Have each take all that it takes for a while, in turn, until none takes ``STILL_MORE`` times what it did.

        A cluster that has just come together takes a fifth of what it takes after a minute of such requests, and one
        time may be disturbed: so twice in a row.
        """
        best = dict.fromkeys(contestants, 0.0)
        in_a_row = 0
        for _ in range(SATURATING_TIMES):
            before = dict(best)
            for name, running in contestants.items():
                best[name] = max(best[name], measure_small(running)["requests/s"])
            more = any(best[name] >= STILL_MORE * before[name] for name in best)
            in_a_row = 0 if more else in_a_row + 1
            if in_a_row == ENOUGH_IN_A_ROW:
                break
        print("  small, at most:", *(f"{n} {v:.0f}/s" for n, v in best.items()))
        self.rate = PART_OF_SATURATION * min(best.values())

    def go_on(self, samples: Mapping[str, Sequence[Sample]]) -> None:
        """The cell has these rounds already."""
        self.rate = next(sample[RATE] for each in samples.values() for sample in each)

    def measure(self, running: Running) -> Sample:
        """An open loop of small requests."""
        found = measure(
            running,
            batch=SMALL,
            partitions=1,
            connections=LATENCY_CONNECTIONS,
            seconds=LATENCY_SECONDS,
            rate=self.rate,
        )
        return {**found, RATE: self.rate}


def warm_up(running: Running, seconds: float) -> None:
    """Requests of all sorts to three replicas, so that what compiles itself has done so."""
    end = time.monotonic() + seconds
    works = (
        (BATCH, 12, CONNECTIONS, DEPTH),
        (LARGE, 1, CONNECTIONS, DEPTH),
        (SMALL, 1, SMALL_CONNECTIONS, 1),
        (BATCH, 1, CONNECTIONS, DEPTH),
    )
    while time.monotonic() < end:
        for batch, partitions, connections, depth in works:
            topic = Topic(running, partitions)
            frames, size = topic.frames(batch)
            replay(
                frames,
                "produce",
                connections=connections,
                depth=depth,
                seconds=seconds / 12,
                requests=VOLUME // size,
            )
            topic.end()


@contextmanager
def clusters(durability: str, rates: Rates) -> Iterator[Mapping[str, Running]]:
    """Both clusters, beside each other: one that has nothing to do takes next to nothing."""
    products = (OttlaCluster(), ApacheKafka())
    with side_by_side(durability, products=products, nodes=NODES, warm_up=warm_up) as contestants:
        rates.find(contestants)
        yield contestants


def cells(durability: str, rates: Rates) -> list[Cell]:
    """Batches, large requests, small ones, and latencies."""
    faster = (Goal("MB/s", at_least=1.0),)
    more = (Goal("requests/s", at_least=1.0),)
    sooner = (Goal("p50 us", at_most=1.0), Goal("p99 us", at_most=1.0))
    large = partial(measure, batch=LARGE, partitions=1)
    small = f"{SMALL_CONNECTIONS} connections, 1 partition"
    rows: list[tuple[str, str, Callable[[Running], Sample], tuple[Goal, ...]]] = [
        (
            "batches/1p",
            "batches of 16 KiB, 1 partition",
            partial(measure, batch=BATCH, partitions=1),
            faster,
        ),
        (
            "batches/12p",
            "batches of 16 KiB, 12 partitions",
            partial(measure, batch=BATCH, partitions=12),
            faster,
        ),
        ("1MB-requests", "requests of 1 MB, 1 partition", large, faster),
        ("small", f"requests of one record of 100 B, {small}", measure_small, more),
        ("latency", "one record of 100 B, half of the slower one's rate", rates.measure, sooner),
    ]
    return [
        Cell(
            name=f"replication/{durability}/{name}",
            table="Three brokers, replication factor 3, acks=all",
            title=title,
            durability=durability,
            contestants=(OURS, APACHE_KAFKA),
            measure=work,
            resumed=rates.go_on if name == "latency" else None,
            goals=goals,
            floor=synced if durability == "disk" else write_and_send,
            floor_name=SYNCS if durability == "disk" else FLOOR_NAMES["produce"],
        )
        for name, title, work, goals in rows
    ]


def synced() -> Sample:
    """What one write with its sync takes here."""
    return {"synced write ms": synced_write_ms()}


def settings() -> list[Setting]:
    """A pair of clusters for each durability."""
    found = []
    for durability in ("os", "disk"):
        rates = Rates()
        opened = partial(clusters, durability, rates)
        found.append(Setting(f"replication-{durability}", opened, tuple(cells(durability, rates))))
    return found
