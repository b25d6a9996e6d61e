"""Very many partitions: create them, write to all of them, start with them again; and the memory that takes.

In a new directory topics of 100 partitions are created over the wire, ten topics a request, until one
ListOffsets for all partitions is answered without an error; then each gets a record. In a copy of a directory that was made so
once, after a clean stop or ``kill -9``, the broker is started until that ListOffsets is answered: by then it leads all
of them and has read what it has to. Produce to all of them is measured with brokers that run side by side, warmed up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

from bench.partitions import Topics
from bench.peers import requests
from bench.peers.brokers import side_by_side
from bench.peers.cells import APACHE_KAFKA, FEWER_ROUNDS, OURS, ROUNDS, Cell, Goal, Sample, Setting
from bench.peers.load import LoadFrame, replay
from bench.peers.products import ApacheKafka, Ottla, Running
from bench.peers.saturation import sample
from bench.peers.starting import Starts, products_to_start
from ottla.messages.registry import decode_response

COUNTS = (100, 1_000, 10_000)
PER_TOPIC = 100
TOPICS_A_REQUEST = 10
SERVES_AFTER_S = 300.0
ASK_AGAIN_S = 0.01
PRODUCE_S = 2.0
FEWER = "Three rounds, since no goal hangs on it: it is shown for how figures grow with the number of partitions."
HEAP = (
    "Apache Kafka has a heap of 1 GB here. With the smallest of the other cells, 96 MB, it ran out of memory while these were "
    "created."
)
SPREADS = (100, 1)
"""Partitions a request."""
CONNECTIONS = 4
DEPTH = 5
CREATE, FIRST, CREATE_AND_FIRST = "create s", "a record in each s", "both s"
STOPPED, KILLED = "start s, after a clean stop", "start s, after kill -9"
CPU = "CPU s"
CREATED_MB, STARTED_MB, KILLED_MB = (
    "PSS MB, created and written to",
    "PSS MB, started after a clean stop",
    "PSS MB, started after kill -9",
)


def measure_create(starts: Starts, *, topics: Topics) -> Sample:
    """Create them in a new directory, and write to them."""
    with starts.directory("new", leave=True) as directory:
        with starts.running(directory) as running:
            running.await_ready()
            found = created(running, topics)
            found[FIRST] = written(running, topics)
            found[CREATE_AND_FIRST] = found[CREATE] + found[FIRST]
            found[CREATED_MB] = running.pss_mb()
            lacking = [kill for kill in (False, True) if starts.lacks(filled(topics, kill=kill))]
            if False in lacking:
                running.stop_cleanly()
        if lacking:  # those that are started are what ``make`` would make
            starts.keep(directory, filled(topics, kill=lacking[0]))
        return found


def filled(topics: Topics, *, kill: bool) -> str:
    """The name of the directory with all of them, of which each start has a copy."""
    return f"{topics.count} partitions, {'killed' if kill else 'stopped'}"


def measure_start(starts: Starts, *, topics: Topics, kill: bool) -> Sample:
    """Start with them after a clean stop, or after a kill."""
    fill = partial(make, topics=topics)
    name = filled(topics, kill=kill)
    with (
        starts.directory(name, fill, kill=kill, leave=True) as directory,
        starts.running(directory) as running,
    ):
        took = serves(running, topics) - running.began
        start, size = (KILLED, KILLED_MB) if kill else (STOPPED, STARTED_MB)
        return {start: took, CPU: running.cpu_seconds(), size: running.pss_mb()}


def make(running: Running, topics: Topics) -> None:
    """All of them, with a record in each."""
    running.await_ready()
    created(running, topics)
    written(running, topics)


def created(running: Running, topics: Topics) -> Sample:
    """Create them all."""
    cpu, begin = running.cpu_seconds(), time.perf_counter()
    with closing(running.connection()) as connection:
        topics.create(connection, TOPICS_A_REQUEST)
    took = serves(running, topics) - begin
    return {CREATE: took, CPU: running.cpu_seconds() - cpu}


def serves(running: Running, topics: Topics) -> float:
    """When it answered for every partition without an error."""
    deadline = time.monotonic() + SERVES_AFTER_S
    while True:
        try:
            connection = running.connection()
            with closing(connection):
                answer = connection.ask(topics.ends)
                now = time.perf_counter()
            if not topics.errors(decode_response(topics.ends.key, topics.ends.version, answer)):
                return now
        except OSError:
            running.require_alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{running.name} does not serve them all:\n{running.last_words()}")
        time.sleep(ASK_AGAIN_S)


def written(running: Running, topics: Topics) -> float:
    """Seconds of the first record in each. Ours makes a partition's files only then."""
    with closing(running.connection()) as connection:
        begin = time.perf_counter()
        topics.write(connection)
        return time.perf_counter() - begin


def frames(topics: Topics, per_request: int, port: int) -> tuple[list[LoadFrame], int]:
    """Requests for all partitions once, ``per_request`` each and of one topic; and how many bytes of batches each has."""
    batch = requests.batch(100, 1_000)
    ranges = [
        range(first, min(first + per_request, topics.partitions))
        for first in range(0, topics.partitions, per_request)
    ]
    made = [
        requests.produce(name, [(index, batch) for index in indexes], 1, port)
        for indexes in ranges
        for name in topics.names
    ]
    return made, len(batch) * per_request


def measure_spread(running: Running, *, topics: Topics, per_request: int) -> Sample:
    """Produce to all of them, the requests in turn."""
    replayed, size = frames(topics, per_request, running.ports[0])
    before = running.cpu_seconds()
    outcome = replay(replayed, "produce", connections=CONNECTIONS, depth=DEPTH, seconds=PRODUCE_S)
    cpu = running.cpu_seconds() - before
    return sample(outcome, outcome.requests * size, cpu, running)


def make_and_warm(running: Running, seconds: float, *, topics: Topics) -> None:
    """Create them, and produce to them for so long."""
    make(running, topics)
    for per_request in SPREADS:
        replayed, _ = frames(topics, per_request, running.ports[0])
        part = seconds / len(SPREADS)
        replay(replayed, "produce", connections=CONNECTIONS, depth=DEPTH, seconds=part)


def topics_of(count: int) -> Topics:
    """So many partitions, in topics of at most 100."""
    return Topics(max(1, count // PER_TOPIC), min(count, PER_TOPIC))


WORKS: dict[str, tuple[str, Callable[..., Sample], tuple[str, ...]]] = {
    "create": (
        "Very many partitions: until they are created, then a record in each",
        measure_create,
        (CREATE, CREATE_AND_FIRST, CREATED_MB),
    ),
    "start": (
        "Very many partitions: start after a clean stop, until all are served",
        partial(measure_start, kill=False),
        (STOPPED, STARTED_MB),
    ),
    "killed": (
        "Very many partitions: start after kill -9, until all are served",
        partial(measure_start, kill=True),
        (KILLED, KILLED_MB),
    ),
}
"""By name: the table, what is measured, and what is to be at most half of Apache Kafka's."""


def cells() -> list[Cell]:
    """By how many partitions; the goals are the largest number's."""
    found = []
    for count in COUNTS:
        for what, (table, measure, metrics) in WORKS.items():
            most = count == max(COUNTS)
            goals = tuple(Goal(metric, at_most=0.5) for metric in metrics)
            found.append(
                Cell(
                    name=f"partitions/{what}/{count}",
                    table=table,
                    title=f"{count:,} partitions",
                    durability="os",
                    contestants=(OURS, APACHE_KAFKA),
                    measure=partial(measure, topics=topics_of(count)),
                    goals=goals if most else (),
                    rounds=ROUNDS if most else FEWER_ROUNDS,
                    notes=(HEAP,) if most else (FEWER,),
                    parameters={"partitions": count},
                )
            )
    return found


def spread_cells(topics: Topics) -> list[Cell]:
    """By how many partitions a request has."""
    return [
        Cell(
            name=f"partitions/spread/{per_request}-a-request",
            table=f"Produce spread over {topics.count:,} partitions, batches of 1 KB",
            title=f"{per_request} partition{'s' if per_request > 1 else ''} a request",
            durability="os",
            contestants=(OURS, APACHE_KAFKA),
            measure=partial(measure_spread, topics=topics, per_request=per_request),
        )
        for per_request in SPREADS
    ]


def settings() -> list[Setting]:
    """Processes that are started, and two with all the partitions that are produced to."""
    opened = partial(products_to_start, "os", (Ottla(), ApacheKafka()))
    topics = topics_of(max(COUNTS))
    warmed = partial(side_by_side, "os", warm_up=partial(make_and_warm, topics=topics))
    return [
        Setting("partitions", opened, tuple(cells())),
        Setting("partitions, spread", warmed, tuple(spread_cells(topics))),
    ]
