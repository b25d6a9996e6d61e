"""Small Produce requests, one record of 100 bytes each: what a broker does for a request, not for its bytes.

All connections write to one partition; with 12 partitions the connection c writes to the partition c modulo 12. On 1
connection the depths (requests on their way) are what a simple client has, what Java's producer has, and more than any
has; on 16 and 256 connections a request each, and Java's five. Under durability ``disk`` all is acks=all and synced by
both before it is answered: Apache Kafka syncs for every append there, and has no group commit.
"""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

from bench.peers import requests
from bench.peers.brokers import topic_name, work_a_while
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, OURS, Cell, Goal, Sample
from bench.peers.floors import synced_write_ms
from bench.peers.load import LoadFrame, Outcome, replay
from bench.peers.products import Running

RECORD_BYTES = 100
SECONDS = {"os": 2.0, "disk": 2.0}
BEFORE_S = 0.3
"""A topic's first requests make its files, and are not counted."""
TABLES = {
    "os": "Small produce requests, one record of 100 B each, acks=1",
    "disk": "Small produce requests, one record of 100 B each, acks=all, synced",
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


def acks_of(durability: str) -> int:
    """What an acknowledgement has to mean in cells of that durability."""
    return -1 if durability == "disk" else 1


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
    outcome = send(seconds=SECONDS[durability])
    cpu = running.cpu_seconds() - before
    running.delete_topic(topic)
    return sample(outcome, cpu)


def sample(outcome: Outcome, cpu: float) -> Sample:
    """Requests a second, and the broker's CPU time for each."""
    return {
        "requests/s": outcome.requests / outcome.seconds,
        "CPU us/request": cpu / outcome.requests * 1e6,
        "p50 us": outcome.p50_us,
        "p99 us": outcome.p99_us,
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


def floor() -> Sample:
    """How long a write of 4 KiB takes with its sync."""
    milliseconds = synced_write_ms()
    return {"requests/s": 1000 / milliseconds}


def cells(durability: str) -> list[Cell]:
    """A cell for each shape."""
    return [
        Cell(
            name=f"small/{durability}/{shape.connections}c/depth-{shape.depth}"
            + (f"/{shape.partitions}p" if shape.partitions > 1 else ""),
            table=TABLES[durability],
            title=str(shape),
            durability=durability,
            contestants=(OURS, APACHE_KAFKA),
            measure=partial(measure, shape=shape, durability=durability),
            goals=(Goal("requests/s", at_least=1.0),),
            floor=floor if durability == "disk" else None,
            parameters={
                "connections": shape.connections,
                "depth": shape.depth,
                "partitions": shape.partitions,
            },
        )
        for shape in SHAPES
    ]
