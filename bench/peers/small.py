"""Small Produce requests, one record of 100 bytes each: what a broker does for a request, not for its bytes.

All connections write to one partition; with 12 partitions the connection c writes to the partition c modulo 12. On 1
connection the depths (requests on their way) are what a simple client has, what Java's producer has, and more than any
has; on 16 and 256 connections a request each, and Java's five. Under durability ``disk`` all is acks=all and synced by
both before it is answered: Apache Kafka syncs for every append there, and has no group commit. ``defaults`` are shown in
one shape.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from typing import NamedTuple

from bench.peers import requests
from bench.peers.brokers import topic_name, work_a_while
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, OURS, Cell, Goal, Sample
from bench.peers.floors import drained, synced_write_ms
from bench.peers.load import LoadFrame, Outcome, replay
from bench.peers.products import Running
from bench.peers.tansu import NOTE, TANSU

RECORD_BYTES = 100
SECONDS = 2.0
BEFORE_S = 0.3
"""A topic's first requests make its files, and are not counted."""
FLOOR_WRITES = 20_000
TABLES = {
    "os": "Small produce requests, one record of 100 B each, acks=1",
    "disk": "Small produce requests, one record of 100 B each, acks=all, synced",
    "defaults": "Small produce requests, one record of 100 B each, acks=all",
}


class Shape(NamedTuple):
    """So many connections, with so many requests on their way on each, to so many partitions."""

    connections: int
    depth: int
    partitions: int = 1

    def __str__(self) -> str:
        text = f"{self.connections} connection{'s' if self.connections > 1 else ''}, depth {self.depth}"
        return text + (f", {self.partitions} partitions" if self.partitions > 1 else "")


SHAPES = (
    Shape(1, 1),
    Shape(1, 5),
    Shape(1, 64),
    Shape(16, 1),
    Shape(16, 5),
    Shape(16, 5, partitions=12),
    Shape(256, 1),
    Shape(256, 5),
)
DEFAULTS_SHAPES = (Shape(16, 5),)
BESIDE_TANSU = (Shape(1, 1), Shape(16, 1), Shape(16, 5))


def acks_of(durability: str) -> int:
    """What an acknowledgement has to mean in cells of that durability; producers' default is all."""
    return 1 if durability == "os" else -1


def frames_of(
    topic: str, ports: list[int], acks: int, batch: tuple[int, int, str] = (RECORD_BYTES, 1, "none")
) -> list[LoadFrame]:
    """A request for each partition; ``batch`` is what ``requests.batch`` takes, one record by default."""
    records = requests.batch(*batch)
    return [
        requests.produce(topic, [(index, records)], acks, port) for index, port in enumerate(ports)
    ]


def measure(running: Running, *, shape: Shape, durability: str) -> Sample:
    """Send small requests to a new topic for some seconds, as fast as they are answered."""
    topic = topic_name()
    ports = running.create_topic(topic, shape.partitions)
    send = partial(
        replay,
        frames_of(topic, ports, acks_of(durability)),
        "produce",
        connections=shape.connections,
        depth=shape.depth,
    )
    send(seconds=BEFORE_S)
    before = running.cpu_seconds()
    outcome = send(seconds=SECONDS)
    cpu = running.cpu_seconds() - before
    found = sample(outcome, cpu, running)
    running.delete_topic(topic)
    return found


def sample(outcome: Outcome, cpu: float, running: Running) -> Sample:
    """Requests a second, the broker's CPU time for each, and its memory then."""
    return {
        "requests/s": outcome.requests / outcome.seconds,
        "CPU us/request": cpu / outcome.requests * 1e6,
        "p50 us": outcome.p50_us,
        "p99 us": outcome.p99_us,
        "PSS MB": running.pss_mb(),
        CLIENT_BUSY: outcome.client_busy,
    }


def warm_up(running: Running, seconds: float, durability: str) -> None:
    """Half of the time work of all sorts, half of it small requests of all these shapes."""
    work_a_while(running, seconds / 2)
    end = time.monotonic() + seconds / 2
    topic = topic_name()
    ports = running.create_topic(topic, 12)
    frames = frames_of(topic, ports, acks_of(durability))
    while (left := end - time.monotonic()) > 0:
        for shape in SHAPES:
            replay(
                frames[: shape.partitions],
                "produce",
                connections=shape.connections,
                depth=shape.depth,
                seconds=min(0.5, max(left / 8, 0.1)),
            )
    running.delete_topic(topic)


def synced() -> Sample:
    """How long a write of 4 KiB takes with its sync."""
    return {"requests/s": 1000 / synced_write_ms()}


def written_and_sent() -> Sample:
    """Records like these written to the page cache one by one, and sent one by one: how many a second, both together."""
    return {"requests/s": 1e6 / write_and_send_us()}


def write_and_send_us() -> float:
    """Microseconds of one record's ``pwrite`` to the page cache and of its send to another thread."""
    block = requests.batch(RECORD_BYTES, 1, "none")
    with tempfile.TemporaryFile() as file:
        begin = time.perf_counter()
        for index in range(FLOOR_WRITES):
            os.pwrite(file.fileno(), block, index * len(block))
        written = time.perf_counter() - begin
    begin = time.perf_counter()
    with drained() as sender:
        for _ in range(FLOOR_WRITES):
            sender.sendall(block)
    return (written + time.perf_counter() - begin) / FLOOR_WRITES * 1e6


SYNCS = "syncs of 4 KiB, one after another"
FLOORS = {
    "os": (written_and_sent, "one thread's write and send, record by record"),
    "disk": (synced, SYNCS),
    "defaults": (synced, SYNCS),
}


def cells(durability: str) -> list[Cell]:
    """A cell for each shape."""
    floor, floor_name = FLOORS[durability]
    beside = BESIDE_TANSU if durability == "os" else ()
    goals = () if durability == "defaults" else (Goal("requests/s", at_least=1.0),)
    return [
        Cell(
            name=f"small/{durability}/{shape.connections}c/depth-{shape.depth}"
            + (f"/{shape.partitions}p" if shape.partitions > 1 else ""),
            table=TABLES[durability],
            title=str(shape),
            durability=durability,
            contestants=(OURS, APACHE_KAFKA, *((TANSU,) if shape in beside else ())),
            measure=partial(measure, shape=shape, durability=durability),
            goals=goals,
            floor=floor,
            floor_name=floor_name,
            notes=(NOTE,) if shape in beside else (),
            parameters={
                "connections": shape.connections,
                "depth": shape.depth,
                "partitions": shape.partitions,
            },
        )
        for shape in (DEFAULTS_SHAPES if durability == "defaults" else SHAPES)
    ]
