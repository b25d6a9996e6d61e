"""How soon the first record is there: after the start of the process, and in a new group; and idle memory.

    python -m bench.first_record [--rounds 10]

The client of these measurements is a plain socket with requests that were encoded before, so that its own
start and work count for next to nothing; it tries to connect every 2 ms. The durabilities, and a new
directory against one that has the topic already, alternate in every round. Issue's aims: 0.2 s to the first
record acknowledged under acks=all, 60 MB resident when idle, 0.1 s to a new group's first record.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.broker_process import (
    Connection,
    Frame,
    broker,
    create_topic_frame,
    free_port,
    require_no_error,
    resident_mb,
)
from bench.figures import Figures, Goal, table
from ottla.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    TopicPartition,
)
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.messages.registry import decode_response
from ottla.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.records.builder import build_batch
from ottla.wire.compiler import encode_bytes

TOPIC = "first"
START_GOAL = Goal(at_most=200)
MEMORY_GOAL = Goal(at_most=60)
GROUP_GOAL = Goal(at_most=100)
IDLE_FOR_S = 2.0
"""Past the work that a broker puts off until it has started."""
DURABILITIES = ("disk", "os")

CREATE = create_topic_frame(TOPIC)
PRODUCE = Frame(
    ProduceRequest(
        acks=-1,
        timeout_ms=30_000,
        topic_data=[
            TopicProduceData(
                name=TOPIC,
                partition_data=[
                    PartitionProduceData(
                        index=0,
                        records=bytes(build_batch([(1_700_000_000_000, b"k", b"v" * 100, ())])),
                    )
                ],
            )
        ],
    ),
    9,
)


def measure_start(durability: str, template: Path | None, figures: Figures, *, idle: bool) -> None:
    """One start, on a new directory or a copy of ``template``, up to the first record."""
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        data = Path(directory) / "data"
        name = f"durability={durability}, "
        if template is not None:
            shutil.copytree(template, data)
            name += "topic is there"
        else:
            name += "new directory"
        port = free_port()
        started = time.perf_counter()
        with broker(data, port, f"durability={durability}") as process:
            connection = Connection(port)
            connected = time.perf_counter()
            if template is None:
                created = connection.answer(CREATE)
                require_no_error(created.topics[0].error_code)
            produced = connection.ask(PRODUCE)
            acknowledged = time.perf_counter()
            answer: Any = decode_response(PRODUCE.key, PRODUCE.version, produced)
            require_no_error(answer.responses[0].partition_responses[0].error_code)
            figures[f"connected, {name}"].append((connected - started) * 1000)
            figures[f"first record, {name}"].append((acknowledged - started) * 1000)
            connection.close()
            if idle:
                time.sleep(IDLE_FOR_S)
                figures[f"resident, {name}"].append(resident_mb(process))


def make_template(directory: Path) -> None:
    """A data directory with the topic and one record, cleanly stopped."""
    port = free_port()
    with broker(directory, port):
        connection = Connection(port)
        require_no_error(connection.answer(CREATE).topics[0].error_code)
        connection.ask(PRODUCE)
        connection.close()


class GroupFrames:
    """What a member sends to read a new group's first record, as far as it is known beforehand."""

    def __init__(self, group: str) -> None:
        subscription = ConsumerProtocolSubscription(topics=[TOPIC])
        partitions = TopicPartition(topic=TOPIC, partitions=[0])
        assignment = ConsumerProtocolAssignment(assigned_partitions=[partitions])
        self.group = group
        self.subscription = b"\0\0" + encode_bytes(subscription, 0)
        self.assignment = b"\0\0" + encode_bytes(assignment, 0)
        topics = [OffsetFetchRequestTopics(name=TOPIC, partition_indexes=[0])]
        asked = OffsetFetchRequestGroup(group_id=group, topics=topics)
        at = ListOffsetsPartition(partition_index=0, timestamp=-2)
        wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
        self.find = Frame(FindCoordinatorRequest(key_type=0, coordinator_keys=[group]), 4)
        self.introduce = self.join("")
        self.offsets = Frame(OffsetFetchRequest(groups=[asked]), 8)
        self.earliest = Frame(
            ListOffsetsRequest(
                replica_id=-1, topics=[ListOffsetsTopic(name=TOPIC, partitions=[at])]
            ),
            7,
        )
        self.fetch = Frame(
            FetchRequest(
                max_wait_ms=500,
                min_bytes=1,
                topics=[FetchTopic(topic=TOPIC, partitions=[wanted])],
            ),
            12,
        )

    def join(self, member_id: str) -> Frame:
        """JoinGroup."""
        protocol = JoinGroupRequestProtocol(name="range", metadata=self.subscription)
        return Frame(
            JoinGroupRequest(
                group_id=self.group,
                session_timeout_ms=45_000,
                rebalance_timeout_ms=300_000,
                member_id=member_id,
                protocol_type="consumer",
                protocols=[protocol],
            ),
            7,
        )

    def sync(self, member_id: str, generation_id: int) -> Frame:
        """SyncGroup of the leader."""
        assignment = SyncGroupRequestAssignment(member_id=member_id, assignment=self.assignment)
        return Frame(
            SyncGroupRequest(
                group_id=self.group,
                generation_id=generation_id,
                member_id=member_id,
                protocol_type="consumer",
                protocol_name="range",
                assignments=[assignment],
            ),
            5,
        )


def read_in_group(connection: Connection, frames: GroupFrames) -> float:
    """Milliseconds from asking for the coordinator to the first record."""
    started = time.perf_counter()
    require_no_error(connection.answer(frames.find).coordinators[0].error_code)
    member_id = connection.answer(frames.introduce).member_id
    joined = connection.answer(frames.join(member_id))
    require_no_error(joined.error_code)
    synced = connection.answer(frames.sync(member_id, joined.generation_id))
    require_no_error(synced.error_code)
    require_no_error(connection.answer(frames.offsets).groups[0].error_code)
    connection.ask(frames.earliest)
    fetched = connection.answer(frames.fetch)
    (partition,) = fetched.responses[0].partitions
    require_no_error(partition.error_code)
    if not partition.records:
        raise RuntimeError("no record")
    return (time.perf_counter() - started) * 1000


def read_with_client(port: int, group: str) -> float:
    """Milliseconds from making an ``ottla.Consumer`` to its first record."""
    from ottla import Consumer

    started = time.perf_counter()
    with Consumer(
        TOPIC, group=group, bootstrap=f"127.0.0.1:{port}", auto_offset_reset="earliest"
    ) as consumer:
        next(iter(consumer))
        return (time.perf_counter() - started) * 1000


def measure_group(durability: str, template: Path, figures: Figures, *, warm: bool) -> None:
    """A broker's first group, which makes the topic of the offsets, and the groups after it."""
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        data = Path(directory) / "data"
        shutil.copytree(template, data)
        port = free_port()
        with broker(data, port, f"durability={durability}"):
            connection = Connection(port)
            first = read_in_group(connection, GroupFrames("first"))
            second = read_in_group(connection, GroupFrames("second"))
            client = read_with_client(port, "third")
            connection.close()
        if warm:
            figures[f"first group of a broker, durability={durability}"].append(first)
            figures[f"another group, durability={durability}"].append(second)
            figures[f"another group, ottla.Consumer, durability={durability}"].append(client)


def main() -> None:
    """Measure, alternating, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds: int = parser.parse_args().rounds
    figures: Figures = defaultdict(list)
    groups: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        template = Path(directory) / "template"
        make_template(template)
        for number in range(rounds + 1):
            now: Figures = defaultdict(list)
            for durability in DURABILITIES:
                for existing in (None, template):
                    idle = number > 0 and durability == "disk" and existing is None
                    measure_start(durability, existing, now, idle=idle)
                measure_group(durability, template, groups, warm=number > 0)
            if number:  # the first round warms the caches
                for name, values in now.items():
                    figures[name] += values
    ordered = dict(sorted(figures.items()))

    def part(prefix: str) -> Figures:
        return {name: values for name, values in ordered.items() if name.startswith(prefix)}

    def all_of(figures: Figures, goal: Goal) -> dict[str, Goal]:
        return dict.fromkeys(figures, goal)

    first, resident = part("first"), part("resident")
    table(f"From the start of the process, {rounds} rounds", part("connected"), "ms")
    title = "  to the first record acknowledged under acks=all"
    table(title, first, "ms", goals=all_of(first, START_GOAL))
    title = "Memory of an idle broker that has served one client"
    table(title, resident, "MB", goals=all_of(resident, MEMORY_GOAL))
    table("A new group's first record", groups, "ms", goals=all_of(groups, GROUP_GOAL))


if __name__ == "__main__":
    main()
