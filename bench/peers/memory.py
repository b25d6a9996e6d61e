"""What memory a broker takes: idle, 5 s after its first topic was there, and at most under a steady load.

Figures are proportional set sizes of all its processes. Kafka's have its mapped index files in them, as far as their
pages were touched; ours reads and writes such files and maps none, so that its pages are in the page cache alone. The
interpreter's own text, 5 MB, counts half or less for us, since this benchmark has it mapped, too.
The anonymous part, which is nobody else's in any case, stands beside. The load is the same for everybody: an open loop of
requests of one record for 12 partitions in turn, with a consumer for each partition that reads what comes.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.first_record import TOPIC
from bench.peers import requests
from bench.peers.cells import APACHE_KAFKA, OURS, Cell, Goal, Sample, Setting
from bench.peers.load import replay
from bench.peers.products import Running
from bench.peers.starting import NOTES, SMALLEST, Starts, first_record, products_to_start
from bench.peers.tansu import NOTE, TANSU

IDLE_S = 3.0
LOAD_S = 6.0
LOOK_EVERY_S = 0.1
PARTITIONS = 12
RECORD_BYTES = 16_000
REQUESTS_PER_S = 2_000
IDLE, LOADED = "PSS MB, idle", "PSS MB, under load"
IDLE_CPU, LOADED_CPU = "CPU s, until idle", "CPU s, under load"
IDLE_OWN, LOADED_OWN = "anonymous MB, idle", "anonymous MB, under load"


def measure(starts: Starts) -> Sample:
    """From a start in a new directory."""
    with starts.directory("new") as directory, starts.running(directory) as running:
        first_record(running, create=True)
        time.sleep(IDLE_S)
        found = {
            IDLE: running.pss_mb(),
            IDLE_OWN: running.anonymous_mb(),
            IDLE_CPU: running.cpu_seconds(),
        }
        return found | under_load(running)


def under_load(running: Running) -> Sample:
    """The most of both sizes while it takes and gives."""
    topic = f"{TOPIC}-load"
    ports = running.create_topic(topic, PARTITIONS)
    batch = requests.batch(RECORD_BYTES, 1)
    writing = [requests.produce(topic, [(i, batch)], 1, port) for i, port in enumerate(ports)]
    reading = [requests.fetch(topic, [i], port) for i, port in enumerate(ports)]
    found = {LOADED: 0.0, LOADED_OWN: 0.0}
    before = running.cpu_seconds()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(
            replay,
            writing,
            "produce",
            connections=PARTITIONS,
            seconds=LOAD_S,
            rate=REQUESTS_PER_S,
            readers=reading,
        )
        while not run.done():
            found[LOADED] = max(found[LOADED], running.pss_mb())
            found[LOADED_OWN] = max(found[LOADED_OWN], running.anonymous_mb())
            time.sleep(LOOK_EVERY_S)
        outcome = run.result()
    return {
        **found,
        LOADED_CPU: running.cpu_seconds() - before,
        "MB/s in": len(batch) * outcome.requests / outcome.seconds / 1e6,
        "MB/s out": outcome.record_bytes / outcome.seconds / 1e6,
    }


def cells() -> list[Cell]:
    """One, with both sizes."""
    goals = [
        Goal(metric, at_most=0.2, against=against)
        for against in (APACHE_KAFKA, SMALLEST)
        for metric in (IDLE, LOADED)
    ]
    return [
        Cell(
            name="memory/one-topic",
            table="Proportional set size, idle and under load",
            title="one topic; then 2,000 records/s of 16 KB into 12 partitions and out again",
            durability="os",
            contestants=(OURS, APACHE_KAFKA, SMALLEST, TANSU),
            measure=measure,
            goals=tuple(goals),
            notes=(
                *NOTES[:2],
                "Idle: 5 s after the first record. Under load: the most that was seen, every 0.1 s.",
                NOTE,
                f"Under load {TANSU} has all records in its memory.",
            ),
        )
    ]


def settings() -> list[Setting]:
    """One."""
    return [Setting("memory", partial(products_to_start, "os"), tuple(cells()))]
