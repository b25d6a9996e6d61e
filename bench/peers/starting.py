"""How soon a broker that was started acknowledges a record, beside a JVM's start.

The clock runs from the start of the broker's process to the first acknowledgement under acks=all. The client is a
plain socket that tries to connect every 2 ms and, where it is answered with an error, asks again: in a new directory
it creates the topic first. Each start is in a copy of a directory that was made once, synced before: a new one
(Kafka's is formatted, which takes its own program 1 to 2 s more and is not counted), one with the topic after a
clean stop, and one after ``kill -9`` whose log has to be read again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.broker_process import Connection
from bench.first_record import CREATE, PRODUCE
from bench.peers import requests
from bench.peers.cells import APACHE_KAFKA, FEWER_ROUNDS, OURS, ROUNDS, Cell, Goal, Sample, Setting
from bench.peers.load import replay
from bench.peers.products import ApacheKafka, Ottla, Product, Running
from bench.peers.tansu import NOTE, TANSU, Tansu, if_to_be_had
from ottla.errors import ErrorCode
from ottla.messages.registry import decode_response

ASK_AGAIN_S = 0.002
DEADLINE_S = 120.0
DATA_BYTES = 100_000_000
DATA_PARTITIONS = 12
SMALLEST = ApacheKafka.smallest().name
NOTES = (
    "Apache Kafka's directory is formatted before, outside the clock.",
    f"{SMALLEST}: {ApacheKafka.smallest().remark}.",
    "After kill -9 Apache Kafka's broker waits until its old session has ended (broker.session.timeout.ms, 9 s).",
)
FEWER = "After kill -9 there are three rounds, since no goal hangs on them."
Fill = Callable[[Running], None]
TABLE = "Start of the process to the first record acknowledged under acks=all"


class Starts:
    """A product that is started again and again, each time in a copy of a directory that was made once."""

    def __init__(self, product: Product, durability: str, place: Path) -> None:
        self.product = product
        self.durability = durability
        self._place = Path(tempfile.mkdtemp(prefix=f"{type(product).__name__}-", dir=place))
        self._started_with = ""

    def started_with(self) -> str:
        """The last one's command and settings."""
        return self._started_with

    @contextmanager
    def directory(
        self, name: str, fill: Fill | None = None, *, kill: bool = False, leave: bool = False
    ) -> Iterator[Path]:
        """A copy of the directory of that name, with everything in it synced.

        It is made when first wanted: the product is prepared there and, with ``fill``, started, filled and then
        stopped cleanly or killed. The copy is removed behind its use, or with ``leave`` with all others in the end: ext4
        looks at every inode that was deleted within the last minute before it gives one out, and who makes very many
        files right behind such a removal pays for that (docs/performance.md).
        """
        template = self._place / name
        if not template.exists():
            self._make(template, fill, kill=kill)
        copy = Path(tempfile.mkdtemp(dir=self._place)) / "of"
        # Holes stay holes: each index of a killed Apache Kafka is 10 MB of them.
        subprocess.run(["cp", "-a", "--sparse=auto", str(template), str(copy)], check=True)
        os.sync()
        try:
            yield copy
        finally:
            if not leave:
                shutil.rmtree(copy.parent)

    def lacks(self, name: str) -> bool:
        """Whether there is no directory of that name yet."""
        return not (self._place / name).exists()

    def keep(self, directory: Path, name: str) -> None:
        """Have ``directory``, in which nothing runs any more, be the one of that name, of which copies are made."""
        directory.rename(self._place / name)

    def _make(self, template: Path, fill: Fill | None, *, kill: bool) -> None:
        making = self._place / "making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        self.product.prepare(making)
        if fill is not None:
            with self.running(making) as running:
                fill(running)
                if not kill:
                    running.stop_cleanly()
        making.rename(template)

    @contextmanager
    def running(self, directory: Path) -> Iterator[Running]:
        """The product there, right after its process was started; killed in the end where it has not been stopped."""
        started = self.product.start(directory, self.durability)
        self._started_with = started.started_with()
        try:
            yield started
        finally:
            started.stop()


def write_topic(running: Running) -> None:
    """The topic, with a record in it."""
    first_record(running, create=True)


def write_data(running: Running) -> None:
    """The same, and ``DATA_BYTES`` in another one."""
    first_record(running, create=True)
    ports = running.create_topic("data", DATA_PARTITIONS)
    batch = requests.batch(1_000, 16_384)
    batches = [(index, batch) for index in range(DATA_PARTITIONS)]
    frame = requests.produce("data", batches, -1, ports[0])
    count = DATA_BYTES // (len(batch) * DATA_PARTITIONS)
    replay([frame], "produce", seconds=60, requests=count)


STATES: dict[str, tuple[Fill | None, bool]] = {
    "new": (None, False),
    "stopped": (write_topic, False),
    "killed": (write_data, True),
}
"""What is in a directory, and whether its broker was killed."""


def first_record(running: Running, *, create: bool) -> float:
    """Seconds from the start of its first process to the acknowledgement."""
    while True:
        try:
            acknowledged = _try_once(running.ports[0], create=create)
        except OSError:
            acknowledged = None
        if acknowledged is not None:
            return acknowledged - running.began
        running.require_alive()
        if time.perf_counter() - running.began > DEADLINE_S:
            raise TimeoutError(f"{running.name} takes no record:\n{running.last_words()}")
        time.sleep(ASK_AGAIN_S)


def _try_once(port: int, *, create: bool) -> float | None:
    """When the record was acknowledged; None where an answer was an error."""
    connection = Connection(port, wait=False)
    try:
        if create:
            created = connection.answer(CREATE).topics[0].error_code
            if created not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                return None
        answer = connection.ask(PRODUCE)
        now = time.perf_counter()
        produced: Any = decode_response(PRODUCE.key, PRODUCE.version, answer)
        (partition,) = produced.responses[0].partition_responses
        return None if partition.error_code else now
    finally:
        connection.close()


def measure(starts: Starts, *, state: str) -> Sample:
    """One start."""
    fill, kill = STATES[state]
    with (
        starts.directory(state, fill, kill=kill) as directory,
        starts.running(directory) as running,
    ):
        took = first_record(running, create=state == "new")
        return {"ms": took * 1000, "CPU s": running.cpu_seconds()}


@contextmanager
def products_to_start(
    durability: str, products: Sequence[Product] = ()
) -> Iterator[dict[str, Starts]]:
    """Every product by its name; each has been started once, so that its files are in the page cache."""
    chosen = list(products)
    if not chosen:
        chosen = [Ottla(), ApacheKafka(), ApacheKafka.smallest()]
        if durability in Tansu.durabilities:
            chosen += if_to_be_had()
    with tempfile.TemporaryDirectory(prefix="ottla-peers-starts-") as place:
        found = {one.name: Starts(one, durability, Path(place)) for one in chosen}
        for starts in found.values():
            measure(starts, state="new")
        yield found


def cells(durability: str) -> list[Cell]:
    """A new directory, one after a clean stop, and one after kill -9; Tansu keeps nothing, so each start of its is of the first kind."""
    goal = partial(Goal, "ms", at_most=0.1)
    goals = (goal(), goal(against=SMALLEST)) if durability == "os" else (goal(),)
    everybody = (OURS, APACHE_KAFKA, SMALLEST) if durability == "os" else (OURS, APACHE_KAFKA)
    rows: list[tuple[str, str, tuple[Goal, ...]]] = [
        ("new", "a new directory, the topic to be created", goals),
        ("stopped", "the topic is there, after a clean stop", goals),
    ]
    if durability == "os":
        after = f"after kill -9, {DATA_BYTES / 1e6:.0f} MB in {DATA_PARTITIONS} partitions to be read again"
        rows.append(("killed", after, ()))  # shown, not judged
    return [
        Cell(
            name=f"start/{state}/{durability}",
            table=TABLE,
            title=title,
            durability=durability,
            contestants=(*everybody, TANSU) if state == "new" and durability == "os" else everybody,
            measure=partial(measure, state=state),
            goals=wanted,
            rounds=ROUNDS if wanted else FEWER_ROUNDS,
            notes=(
                *NOTES,
                *((NOTE,) if state == "new" and durability == "os" else ()),
                *(() if wanted else (FEWER,)),
            ),
        )
        for state, title, wanted in rows
    ]


def settings() -> list[Setting]:
    """Under the page cache on both sides, and under each one's defaults: ours syncs the record then, Kafka does not."""
    return [
        Setting(
            f"starts, {durability}",
            partial(products_to_start, durability),
            tuple(cells(durability)),
        )
        for durability in ("os", "defaults")
    ]
