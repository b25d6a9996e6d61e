"""Open-loop latency: requests come at their times, whether those before them are answered or not.

A latency counts from when its request was to be sent. What the generator itself is late stands beside it (``late p99
us``). The rate is a part of what the slower of the two brokers takes at most, which is measured first, with five
requests on their way on each connection: both get the same requests at the same times.

End to end is from when a record was to be sent until a Fetch that waited for it brings it: four producers with a
partition each, four consumers, all of them in the generator's process, so that one clock tells both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from bench.peers import crowd, requests, small
from bench.peers.brokers import side_by_side, topic_name, warm
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, OURS, Cell, Goal, Sample, Setting
from bench.peers.load import LoadFrame, Outcome, replay
from bench.peers.products import Running

LOADS = (0.1, 0.25, 0.5, 0.75, 0.9)
AT = 0.5
"""The load at which the goals are."""
SECONDS = 4.0
BEFORE_S = 0.5
SATURATING_S = 1.5
SATURATING_TIMES = 2
DEPTH = 5
GOALS = (Goal("p50 us", at_most=1.0), Goal("p99 us", at_most=1.0))


class Work(NamedTuple):
    """What is sent, to a topic of its own, and whether it is awaited by readers."""

    name: str
    title: str
    connections: int
    partitions: int = 1
    batch: tuple[int, int, str] = (small.RECORD_BYTES, 1, "none")
    read: bool = False

    @property
    def size(self) -> int:
        """The bytes of a request's batch."""
        return len(requests.batch(*self.batch))


SMALL = Work("small", "one record of 100 B a request, 16 connections", 16)
BATCHES = Work("16KiB", "batches of 16 KiB, 4 connections", 4, batch=(1_000, 16_384, "none"))
END_TO_END = Work(
    "end-to-end",
    "one record of 100 B from 4 producers to 4 waiting consumers",
    4,
    partitions=4,
    read=True,
)


def run(running: Running, work: Work, acks: int, **how: float) -> tuple[Outcome, float]:
    """Do so much of it on a new topic; what came of it, and the broker's CPU seconds."""
    topic = topic_name()
    ports = running.create_topic(topic, work.partitions)
    frames = small.frames_of(topic, ports, acks, work.batch)
    send = partial(replay, frames, "produce", connections=work.connections, depth=DEPTH)
    readers: list[LoadFrame] = []
    if work.read:
        readers = [requests.fetch(topic, [index], port) for index, port in enumerate(ports)]
    else:
        send(requests=100, seconds=BEFORE_S)
    before = running.cpu_seconds()
    outcome = send(readers=readers, **how)  # type: ignore[arg-type]
    cpu = running.cpu_seconds() - before
    running.delete_topic(topic)
    return outcome, cpu


class Paces:
    """How fast each work is to come: by what the slower contestant took at most, measured when first wanted."""

    def __init__(self) -> None:
        self._contestants: Mapping[str, Running] = {}
        self._saturations: dict[tuple[str, int], float] = {}

    def begin(self, contestants: Mapping[str, Running]) -> None:
        """These run now."""
        self._contestants = contestants
        self._saturations.clear()

    def saturation(self, work: Work, acks: int) -> float:
        """Requests a second that the slowest contestant takes at most."""
        key = work.name, acks
        if key not in self._saturations:
            best = dict.fromkeys(self._contestants, 0.0)
            for _ in range(SATURATING_TIMES):
                for name, running in self._contestants.items():
                    warm(work.size * 60_000 * SATURATING_S)
                    outcome, _ = run(running, work, acks, seconds=SATURATING_S)
                    best[name] = max(best[name], outcome.requests / outcome.seconds)
            self._saturations[key] = min(best.values())
            print(f"  {work.name}, at most:", *(f"{n} {v:.0f}/s" for n, v in best.items()))
        return self._saturations[key]


def measure(running: Running, *, work: Work, acks: int, load: float, paces: Paces) -> Sample:
    """Send at a part of what the slower one takes at most."""
    rate = load * paces.saturation(work, acks)
    seconds = SECONDS if work.size < 1_000 else SECONDS / 2
    warm(rate * seconds * work.size)
    outcome, cpu = run(running, work, acks, seconds=seconds, rate=rate)
    return sample(outcome, cpu, work)


def sample(outcome: Outcome, cpu: float, work: Work) -> Sample:
    """Latencies of the whole way, and of the acknowledgement where that is another."""
    found = {"p50 us": outcome.p50_us, "p99 us": outcome.p99_us, "p99.9 us": outcome.p999_us}
    if work.read:
        found = {
            "p50 us": outcome.end_p50_us,
            "p99 us": outcome.end_p99_us,
            "p99.9 us": outcome.end_p999_us,
            "ack p50 us": outcome.p50_us,
            "ack p99 us": outcome.p99_us,
        }
    return found | {
        "requests/s": outcome.requests / outcome.seconds,
        "late p50 us": outcome.late_p50_us,
        "late p99 us": outcome.late_p99_us,
        "CPU us/request": cpu / outcome.requests * 1e6,
        CLIENT_BUSY: outcome.client_busy,
    }


def cells(durability: str, paces: Paces) -> list[Cell]:
    """Small requests at all loads, the other works at the one that counts."""
    acks = small.acks_of(durability)
    suffix = ", acks=all, synced" if durability == "disk" else ", acks=1"
    works = [(SMALL, LOADS), (BATCHES, (AT,)), (END_TO_END, (AT,))]
    return [
        Cell(
            name=f"latency/{durability}/{work.name}/{load * 100:.0f}%",
            table="Open-loop latency at a part of what the slower one takes at most" + suffix,
            title=f"{work.title}, {load * 100:.0f} %",
            durability=durability,
            contestants=(OURS, APACHE_KAFKA),
            measure=partial(measure, work=work, acks=acks, load=load, paces=paces),
            goals=GOALS if load == AT else (),
            parameters={"load": load},
        )
        for work, loads in works
        for load in loads
    ]


def settings() -> list[Setting]:
    """Small requests, latencies and crowds share their brokers: one setting for each kind of durability."""
    found = []
    for durability in ("os", "disk"):
        paces = Paces()
        chosen = [*small.cells(durability), *cells(durability, paces)]
        if durability == "os":
            chosen += crowd.cells(partial(_paced, paces))
        found.append(
            Setting(f"steady/{durability}", partial(_contestants, durability, paces), tuple(chosen))
        )
    return found


def _paced(paces: Paces, running: Running, acks: int) -> Sample:
    """What the others do while there is a crowd."""
    return measure(running, work=END_TO_END, acks=acks, load=crowd.LOAD, paces=paces)


@contextmanager
def _contestants(durability: str, paces: Paces) -> Iterator[Mapping[str, object]]:
    warm_up = partial(small.warm_up, durability=durability)
    with side_by_side(durability, warm_up=warm_up) as found:
        paces.begin(found)
        yield {
            **found,
            **{crowd.alone(name): crowd.Alone(running) for name, running in found.items()},
        }
