"""Open-loop latency: requests come at their times, whether those before them are answered or not.

A latency counts from when its request was to be sent. What the generator itself is late stands beside it (``late p99
us``). The rate is a part of what the slower of the two brokers takes at most, which is measured first, with five
requests on their way on each connection: both get the same requests at the same times. A cell that is gone on with
keeps the rate that its first rounds had.

End to end is from when a record was to be sent until a Fetch that waited for it brings it: four producers with a
partition each, four consumers, all of them in the generator's process, so that one clock tells both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from bench.peers import crowd, requests, saturation, small
from bench.peers.brokers import settle, side_by_side, topic_name, warm
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, OURS, Cell, Goal, Sample, Setting
from bench.peers.floors import synced_write_ms
from bench.peers.load import LoadFrame, Outcome, replay
from bench.peers.products import ApacheKafka, Ottla, Running
from bench.peers.tansu import NOTE, TANSU, if_to_be_had

LOADS = (0.1, 0.25, 0.5, 0.75, 0.9)
AT = 0.5
"""The load at which the goals are."""
SECONDS = 2.5
SECONDS_JUDGED = 4.0
"""Where there are goals: enough for several collections of a JVM's garbage, and for a p99 of more than a few."""
BEFORE_S = 0.5
SATURATING_S = 1.5
SATURATING_TIMES = 2
DEPTH = 5
ENOUGH_FOR_P999 = 10_000
"""Of fewer it would be one of the last ten."""
RATE = "rate"
GOALS = (Goal("p50 us", at_most=1.0), Goal("p99 us", at_most=1.0))
TABLE = "Open-loop latency at a part of what the slower one takes at most"
SUFFIXES = {"os": ", acks=1", "disk": ", acks=all, synced", "defaults": ", acks=all"}


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
WORKS = (SMALL, BATCHES, END_TO_END)


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
    """How fast each work is to come: by what the slower contestant took at most, measured before anybody's turn."""

    def __init__(self) -> None:
        self._saturations: dict[str, float] = {}
        self._rates: dict[str, float] = {}

    def find(
        self, contestants: Mapping[str, Running], acks: int, works: Sequence[Work] = WORKS
    ) -> None:
        """Have each of these, that run now, take all that it takes of each work, in turn."""
        for work in works:
            best = dict.fromkeys(contestants, 0.0)
            for _ in range(SATURATING_TIMES):
                for name, running in contestants.items():
                    warm(work.size * 60_000 * SATURATING_S)
                    outcome, _ = run(running, work, acks, seconds=SATURATING_S)
                    settle()
                    best[name] = max(best[name], outcome.requests / outcome.seconds)
            self._saturations[work.name] = min(best.values())
            print(f"  {work.name}, at most:", *(f"{n} {v:.0f}/s" for n, v in best.items()))
        self._rates.clear()

    def rate(self, cell: str, work: Work, load: float) -> float:
        """Requests a second for a cell: as many as its first rounds had, or that part of what was found."""
        return self._rates.get(cell) or load * self._saturations[work.name]

    def go_on(self, samples: Mapping[str, Sequence[Sample]], *, cell: str) -> None:
        """A cell has these rounds already: the others are at their rate."""
        known = [sample[RATE] for each in samples.values() for sample in each if RATE in sample]
        if known:
            self._rates[cell] = known[0]


def measure(
    running: Running, *, cell: str, work: Work, acks: int, load: float, paces: Paces
) -> Sample:
    """Send at a part of what the slower one takes at most."""
    rate = paces.rate(cell, work, load)
    seconds = SECONDS_JUDGED if load == AT else SECONDS
    warm(rate * seconds * work.size)
    outcome, cpu = run(running, work, acks, seconds=seconds, rate=rate)
    return {**sample(outcome, cpu, work), "PSS MB": running.pss_mb(), RATE: rate}


def sample(outcome: Outcome, cpu: float, work: Work) -> Sample:
    """Latencies of the whole way, and of the acknowledgement where that is another."""
    p50, p99, p999 = outcome.p50_us, outcome.p99_us, outcome.p999_us
    found = {}
    if work.read:
        found = {"ack p50 us": p50, "ack p99 us": p99}
        p50, p99, p999 = outcome.end_p50_us, outcome.end_p99_us, outcome.end_p999_us
    return percentiles(outcome.requests, p50, p99, p999) | {
        **found,
        "requests/s": outcome.requests / outcome.seconds,
        "late p50 us": outcome.late_p50_us,
        "late p99 us": outcome.late_p99_us,
        "CPU us/request": cpu / outcome.requests * 1e6,
        CLIENT_BUSY: outcome.client_busy,
    }


def written_and_sent() -> Sample:
    """What the machine takes to write a record and to send it."""
    return {"write and send us": small.write_and_send_us()}


def synced() -> Sample:
    """What it takes to write a record, with its sync."""
    return {"write and sync us": synced_write_ms() * 1000}


def percentiles(count: int, p50: float, p99: float, p999: float) -> Sample:
    """How many latencies there were, and their percentiles, of which p99.9 is left out where it would be chance."""
    found = {"p50 us": p50, "p99 us": p99}
    if count >= ENOUGH_FOR_P999:
        found["p99.9 us"] = p999
    return found | {"requests": float(count)}


def works_of(durability: str) -> tuple[Work, ...]:
    """What is measured of it."""
    return (SMALL,) if durability == "defaults" else WORKS


def cells(durability: str, paces: Paces) -> list[Cell]:
    """Small requests at all loads, the other works at the one that counts; of the defaults small requests at that one.

    Tansu takes so few of them that it stands beside at the smallest load alone.
    """
    acks = small.acks_of(durability)
    all_loads = durability != "defaults"
    works = [
        (work, LOADS if work is SMALL and all_loads else (AT,)) for work in works_of(durability)
    ]
    beside = (SMALL, min(LOADS)) if durability == "os" else None
    found = []
    for work, load in [(work, load) for work, loads in works for load in loads]:
        name = f"latency/{durability}/{work.name}/{load * 100:.0f}%"
        with_tansu = (work, load) == beside
        found.append(
            Cell(
                name=name,
                table=TABLE + SUFFIXES[durability],
                title=f"{work.title}, {load * 100:.0f} %",
                durability=durability,
                contestants=(OURS, APACHE_KAFKA, *((TANSU,) if with_tansu else ())),
                measure=partial(measure, cell=name, work=work, acks=acks, load=load, paces=paces),
                resumed=partial(paces.go_on, cell=name),
                goals=GOALS if load == AT and durability != "defaults" else (),
                floor=written_and_sent if durability == "os" else synced,
                notes=(NOTE,) if with_tansu else (),
                parameters={"load": load},
            )
        )
    return found


def settings() -> list[Setting]:
    """Small requests, latencies and crowds share their brokers: one setting for each kind of durability."""
    found = []
    for durability in ("os", "disk"):
        paces = Paces()
        chosen = [*small.cells(durability), *cells(durability, paces)]
        if durability == "os":
            chosen += crowd.cells(partial(_paced, paces), partial(paces.go_on, cell=crowd.NAME))
        found.append(_setting(durability, paces, chosen))
    return found


def settings_of_defaults() -> list[Setting]:
    """All that is shown of each product's defaults, but for starts: small requests, a latency, and producing at most."""
    paces = Paces()
    chosen = [*small.cells("defaults"), *cells("defaults", paces), *saturation.cells_of_defaults()]
    return [_setting("defaults", paces, chosen)]


def _setting(durability: str, paces: Paces, chosen: Sequence[Cell]) -> Setting:
    return Setting(f"steady/{durability}", partial(_contestants, durability, paces), tuple(chosen))


def _paced(paces: Paces, running: Running, acks: int) -> Sample:
    """What the others do while there is a crowd."""
    return measure(
        running, cell=crowd.NAME, work=END_TO_END, acks=acks, load=crowd.LOAD, paces=paces
    )


@contextmanager
def _contestants(durability: str, paces: Paces) -> Iterator[Mapping[str, object]]:
    warm_up = partial(small.warm_up, durability=durability)
    products = [Ottla(), ApacheKafka(), *(if_to_be_had() if durability == "os" else ())]
    with side_by_side(durability, products=products, warm_up=warm_up) as found:
        paced = {name: one for name, one in found.items() if name != TANSU}
        paces.find(paced, small.acks_of(durability), works_of(durability))
        yield {
            **found,
            **{crowd.alone(name): crowd.Alone(running) for name, running in found.items()},
        }
