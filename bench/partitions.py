"""How a broker with very many partitions starts, and what memory it holds: 100 topics of 100 by default.

    python -m bench.partitions [--rounds 3] [--topics 100] [--partitions 100]

The partitions are created over the wire (that time is a figure), and each gets one record, so that each has files
to open (under ``durability=os``, since 10,000 syncs are another matter). A start's clock stops at the answer to one ListOffsets for every partition there is, each of which has to
be led and to hold its record. Starts after a clean stop and after ``kill -9`` alternate; a start's memory is
resident memory after that answer. After ``kill -9`` the active segment of every partition is read and its indexes
are made anew, whether or not it was written to since the last start.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.broker_process import (
    Connection,
    Frame,
    broker,
    cpu_seconds,
    free_port,
    require_no_error,
    resident_mb,
)
from bench.figures import Figures, Goal, table
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.builder import build_batch

NOW_MS = int(time.time() * 1000)
"""Records are of today: none is old enough to be deleted while it is measured."""
START_GOAL = Goal(at_most=5.0)
MEMORY_GOAL = Goal(at_most=300)


class Topics:
    """The topics, and the requests about them."""

    def __init__(self, topics: int, partitions: int) -> None:
        self.names = [f"many-{number:03}" for number in range(topics)]
        self.partitions = partitions
        self.count = topics * partitions
        asked = [ListOffsetsPartition(partition_index=i, timestamp=-1) for i in range(partitions)]
        self.ends = Frame(
            ListOffsetsRequest(
                replica_id=-1,
                topics=[ListOffsetsTopic(name=name, partitions=asked) for name in self.names],
            ),
            7,
        )
        self._batch = bytes(build_batch([(NOW_MS, None, bytes(100), ())]))

    def create(self, connection: Connection, per_request: int = 1) -> None:
        """Create them all, so many topics a request."""
        for first in range(0, len(self.names), per_request):
            wanted = [
                CreatableTopic(name=name, num_partitions=self.partitions, replication_factor=1)
                for name in self.names[first : first + per_request]
            ]
            frame = Frame(CreateTopicsRequest(topics=wanted, timeout_ms=60_000), 7)
            for topic in connection.answer(frame).topics:
                require_no_error(topic.error_code)

    def write(self, connection: Connection) -> None:
        """A record into each partition, a topic a request."""
        for name in self.names:
            data = [
                PartitionProduceData(index=i, records=self._batch) for i in range(self.partitions)
            ]
            topic = TopicProduceData(name=name, partition_data=data)
            answer = connection.answer(
                Frame(ProduceRequest(acks=-1, timeout_ms=60_000, topic_data=[topic]), 9)
            )
            for found in answer.responses[0].partition_responses:
                require_no_error(found.error_code)

    def errors(self, answer: Any) -> int:
        """How many partitions are missing in an answer, or answered for with an error."""
        found = [one for topic in answer.topics for one in topic.partitions]
        return self.count - sum(not one.error_code for one in found)

    def check(self, answer: Any, records: int) -> None:
        """Raise where a partition is not led, or holds another number of records."""
        found = [one for topic in answer.topics for one in topic.partitions]
        for one in found:
            require_no_error(one.error_code)
        if len(found) != self.count or any(one.offset != records for one in found):
            raise RuntimeError(f"{len(found)} partitions of {self.count}, or other ends")


def measure_start(data: Path, topics: Topics, name: str, figures: Figures, *, kill: bool) -> None:
    """One start, and how it ends."""
    port = free_port()
    begin = time.perf_counter()
    with broker(data, port) as process:
        connection = Connection(port)
        answer = connection.answer(topics.ends)
        figures[f"s|start, {name}"].append(time.perf_counter() - begin)
        figures[f"CPU s|start, {name}"].append(sum(cpu_seconds(process)))
        topics.check(answer, 1)
        figures[f"MB|resident, start {name}"].append(resident_mb(process))
        end(process, connection, figures, kill=kill)


def end(
    process: subprocess.Popen[bytes], connection: Connection, figures: Figures, *, kill: bool
) -> None:
    """Kill it, or time a clean stop."""
    connection.close()
    if kill:
        process.kill()
        process.wait()
        return
    begin = time.perf_counter()
    process.terminate()
    process.wait(120)
    figures["s|clean stop"].append(time.perf_counter() - begin)


def main() -> None:
    """Measure, alternating, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=100)
    options = parser.parse_args()
    topics = Topics(options.topics, options.partitions)
    figures: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        data = Path(directory) / "data"
        port = free_port()
        with broker(data, port, "durability=os") as process:
            connection = Connection(port)
            begin = time.perf_counter()
            topics.create(connection)
            figures["s|create"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            topics.write(connection)
            figures["s|the first record in each"].append(time.perf_counter() - begin)
            figures["MB|resident, created and written"].append(resident_mb(process))
            end(process, connection, figures, kill=False)
        for _ in range(options.rounds):
            measure_start(data, topics, "after a clean stop", figures, kill=True)
            measure_start(data, topics, "after kill -9", figures, kill=False)
    report(figures, topics.count, options.rounds)


def report(figures: Figures, count: int, rounds: int) -> None:
    """Print what was measured."""
    starts = ("after a clean stop", "after kill -9")
    goals = {
        "s": {f"start, {name}": START_GOAL for name in starts},
        "MB": {f"resident, start {name}": MEMORY_GOAL for name in starts},
    }
    for unit, digits in (("s", 2), ("CPU s", 2), ("MB", 0)):
        part = {
            name.partition("|")[2]: values
            for name, values in figures.items()
            if name.startswith(f"{unit}|")
        }
        title = f"{unit}: {count:,} partitions, {rounds} rounds"
        table(title, part, unit, digits, goals.get(unit))


if __name__ == "__main__":
    main()
