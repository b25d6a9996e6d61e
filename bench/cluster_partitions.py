"""Very many partitions in a cluster: the next controller takes over, and a broker that has them all starts.

    python -m bench.cluster_partitions [--counts 1000 10000] [--rounds 5 2] [--replicas 3] [--only failover|start]

Three ZooKeeper servers and three brokers on this machine; topics of 100 partitions that the three lead in equal
parts, a record in each partition, ``durability=os``.

**Controller failover.** The broker in office, which leads a third of the partitions, gets SIGKILL. *Elected* is the
creation of the next ``/controller`` znode: the ctime that ZooKeeper itself has put on it, so that nothing of the
election counts as before it. *Every partition led* is the later of two moments, as two clients that nobody has
told anything see them: every partition that the dead one led has answered a ListOffsets (of its end) as its leader, asked of the
broker that says so; and the Metadata of both that are left names for every partition a leader that lives. Meanwhile one
partition is asked for, again and again, and all that are still open once it is there: the question is not to cost
what the answer does. Beside that: when the last state znode was written (mtime). After it every state is read back, and has
to name a living leader that is in its ISR.

**Start.** The broker that was killed starts again, and in another round one that was stopped. The clock goes from the
start of the process until it has answered, for each of its replicas, a Fetch (as of a consumer that reads from
followers) without an error: until it has taken every replica up. Resident memory is of that moment, and again of the one
at which it is back in the ISR of all of them, which has a figure of its own.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.broker_process import (
    DEADLINE_S,
    Connection,
    Frame,
    cpu_seconds,
    require_no_error,
    resident_mb,
)
from bench.cluster_process import BROKER_IDS, POLL_S, Cluster, cluster, metadata_frame, wait_for
from bench.figures import Figures, Goal, table
from ottla.errors import ErrorCode
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.builder import build_batch

PER_TOPIC = 100
GOALS_S = {1_000: Goal(at_most=1.0), 10_000: Goal(at_most=8.0)}
SESSION_TIMEOUT = "zookeeper.session.timeout.ms=6000"
"""Long enough for brokers that share two processors: no session is to end but the one of who is killed."""
START_GOAL = Goal(at_most=5.0)
MEMORY_GOAL = Goal(at_most=300)

Id = tuple[str, int]


class Partitions:
    """The topics, and the questions about them."""

    def __init__(self, count: int, replicas: int) -> None:
        self.topics = {
            f"many-{number:03}": [
                [BROKER_IDS[(number + index + step) % len(BROKER_IDS)] for step in range(replicas)]
                for index in range(PER_TOPIC)
            ]
            for number in range(count // PER_TOPIC)
        }
        self.replicas = replicas
        self.ids: list[Id] = [(name, index) for name in self.topics for index in range(PER_TOPIC)]
        self._batch = bytes(build_batch([(1_700_000_000_000, None, bytes(100), ())]))

    def replicas_on(self, broker_id: int) -> list[Id]:
        """Those of which the broker has a replica."""
        return [one for one in self.ids if broker_id in self.topics[one[0]][one[1]]]

    def first_on(self, broker_id: int) -> list[Id]:
        """Those that it leads when the preferred leaders do."""
        return [one for one in self.ids if self.topics[one[0]][one[1]][0] == broker_id]

    def write(self, brokers: Cluster) -> None:
        """A record into each."""
        for broker_id in BROKER_IDS:
            connection = Connection(brokers.ports[broker_id])
            for name, indexes in _by_topic(self.first_on(broker_id)).items():
                data = [PartitionProduceData(index=i, records=self._batch) for i in indexes]
                topic = TopicProduceData(name=name, partition_data=data)
                request = ProduceRequest(acks=-1, timeout_ms=60_000, topic_data=[topic])
                answer = connection.answer(Frame(request, 9))
                for found in answer.responses[0].partition_responses:
                    require_no_error(found.error_code)
            connection.close()


def _by_topic(ids: Iterable[Id]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = defaultdict(list)
    for name, index in ids:
        grouped[name].append(index)
    return grouped


def led(connection: Connection, ids: Sequence[Id]) -> set[Id]:
    """Those that the broker answers for as their leader."""
    topics = [
        ListOffsetsTopic(
            name=name,
            partitions=[ListOffsetsPartition(partition_index=i, timestamp=-1) for i in indexes],
        )
        for name, indexes in _by_topic(ids).items()
    ]
    answer = connection.answer(Frame(ListOffsetsRequest(replica_id=-1, topics=topics), 7))
    # A leader whose high watermark has not reached its epoch's start yet says so: it leads.
    leads = (ErrorCode.NONE, ErrorCode.OFFSET_NOT_AVAILABLE)
    return {
        (topic.name, one.partition_index)
        for topic in answer.topics
        for one in topic.partitions
        if one.error_code in leads
    }


def readable(connection: Connection, ids: Sequence[Id]) -> set[Id]:
    """Those that the broker has a replica of which it lets be read, as leader or follower."""
    topics = [
        FetchTopic(
            topic=name,
            partitions=[
                FetchPartition(partition=i, fetch_offset=0, partition_max_bytes=1) for i in indexes
            ],
        )
        for name, indexes in _by_topic(ids).items()
    ]
    request = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1, topics=topics)
    answer = connection.answer(Frame(request, 12))
    there = (ErrorCode.NONE, ErrorCode.OFFSET_NOT_AVAILABLE)
    return {
        (topic.topic, one.partition_index)
        for topic in answer.responses
        for one in topic.partitions
        if one.error_code in there
    }


def named_with_leader(connection: Connection, ids: Sequence[Id], living: Sequence[int]) -> set[Id]:
    """Those for which the broker's metadata names a leader that lives."""
    answer = connection.answer(metadata_frame(_by_topic(ids)))
    return {
        (topic.name, one.partition_index)
        for topic in answer.topics
        for one in topic.partitions
        if one.leader_id in living and not one.error_code
    }


def await_all(ids: Sequence[Id], asked: Callable[[Sequence[Id]], set[Id]]) -> float:
    """When the last of them was in an answer: the last open one is asked for alone, until it is."""
    open_ids = list(ids)
    deadline = time.monotonic() + DEADLINE_S
    while open_ids:
        if asked(open_ids[-1:]):
            found = asked(open_ids)
            open_ids = [one for one in open_ids if one not in found]
            continue
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(open_ids)} partitions of {len(ids)} are open")
        time.sleep(POLL_S)
    return time.monotonic()


class Rounds:
    """What is done again and again with one cluster."""

    def __init__(self, brokers: Cluster, partitions: Partitions, figures: Figures) -> None:
        self._brokers = brokers
        self._partitions = partitions
        self._figures = figures
        self._name = f"{len(partitions.ids):,} partitions"

    def create(self) -> None:
        """Create, and write."""
        begin = time.monotonic()
        for name, assignment in self._partitions.topics.items():
            self._brokers.create({name: assignment})
        self._note("s|create", time.monotonic() - begin)
        self._brokers.await_in_sync(self._partitions.ids, self._partitions.replicas)
        begin = time.monotonic()
        self._partitions.write(self._brokers)
        self._note("s|the first record in each", time.monotonic() - begin)

    def fail_over(self) -> int:
        """Kill the controller, and time its successor; who was killed."""
        victim = self._brokers.controller_id()
        living = [one for one in BROKER_IDS if one != victim]
        gone = self._brokers.observer.deletion(victim)
        connections = {one: Connection(self._brokers.ports[one]) for one in living}
        self._brokers.signal(victim, signal.SIGKILL)
        self._brokers.await_end(victim)
        deleted = gone.wait()
        cpu = {one: sum(cpu_seconds(self._brokers.processes[one])) for one in living}
        mine = self._partitions.first_on(victim)

        def leads(ids: Sequence[Id]) -> set[Id]:
            return set().union(*(led(connections[one], ids) for one in living))

        def known(ids: Sequence[Id]) -> set[Id]:
            answers = (named_with_leader(connections[one], ids, living) for one in living)
            return set.intersection(*answers)

        all_led = await_all(mine, leads)
        all_known = await_all(self._partitions.ids, known)
        for connection in connections.values():
            connection.close()
        found = self._brokers.observer.controller()
        if found is None or found[0] == victim:
            raise RuntimeError("no other controller")
        wall = time.time() - time.monotonic()
        successor, elected = found[0], found[1] - wall
        states = self._brokers.observer.states(mine)
        if any(one.leader not in living or one.leader not in one.isr for one in states):
            raise RuntimeError("a state znode without a living leader in its ISR")
        last_written = max(one.written for one in states) - wall
        self._note("s|registration deleted -> elected", elected - deleted)
        self._note("s|elected -> last state znode written", last_written - elected)
        self._note("s|elected -> each answered for by its leader", all_led - elected)
        self._note("s|elected -> every partition led", max(all_led, all_known) - elected)
        for one in living:
            spent = sum(cpu_seconds(self._brokers.processes[one])) - cpu[one]
            role = "new controller" if one == successor else "other broker"
            self._note(f"CPU s|failover, {role}", spent)
        return victim

    def start(self, broker_id: int, how: str) -> None:
        """Start a broker, and time it until it has everything again."""
        ids = self._partitions.replicas_on(broker_id)
        begin = time.monotonic()
        self._brokers.start(broker_id)
        process = self._brokers.processes[broker_id]
        connection = Connection(self._brokers.ports[broker_id])
        taken_up = await_all(ids, lambda some: readable(connection, some))
        self._note(f"s|start {how}: each replica taken up", taken_up - begin)
        self._note(f"CPU s|start {how}", sum(cpu_seconds(process)))
        self._note(f"MB|resident, start {how}", resident_mb(process))
        states = self._brokers.await_in_sync(ids, self._partitions.replicas)
        back = max(one.written for one in states) - (time.time() - time.monotonic())
        self._note(f"s|start {how}: in every ISR", back - begin)
        self._note(f"MB|resident, in every ISR {how}", resident_mb(process))
        connection.close()

    def stop(self, broker_id: int) -> None:
        """Stop a broker as a service manager does."""
        begin = time.monotonic()
        self._brokers.signal(broker_id, signal.SIGTERM)
        self._note("s|clean stop", self._brokers.await_end(broker_id) - begin)

        def gone() -> bool | None:
            return None if broker_id in self._brokers.observer.broker_ids() else True

        wait_for(gone, "its registration is gone")

    def prefer(self) -> None:
        """Have everything led as at the beginning: each leads a third."""
        self._brokers.await_registered()
        begin = time.monotonic()
        self._brokers.elect_preferred()
        self._note("s|preferred leaders elected", time.monotonic() - begin)

    def memory(self) -> None:
        """What each of them holds now."""
        for process in self._brokers.processes.values():
            self._note("MB|resident, leading a third", resident_mb(process))

    def _note(self, name: str, value: float) -> None:
        kind, _, rest = name.partition("|")
        self._figures[f"{kind}|{rest}, {self._name}"].append(value)


def measure(count: int, rounds: int, options: Any, figures: Figures) -> None:
    """One cluster with so many partitions."""
    partitions = Partitions(count, options.replicas)
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        settings = ("durability=os", SESSION_TIMEOUT, *options.set)
        with cluster(Path(directory), *settings) as brokers:
            repeated = Rounds(brokers, partitions, figures)
            repeated.create()
            repeated.memory()
            for number in range(rounds):
                if options.only in "failover":
                    repeated.start(repeated.fail_over(), "after kill -9")
                    repeated.prefer()
                if options.only in "start" and number < options.starts:
                    victim = next(x for x in BROKER_IDS if x != brokers.controller_id())
                    repeated.stop(victim)
                    repeated.start(victim, "after a clean stop")
                    repeated.prefer()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, nargs="*", default=[5, 2], help="one for each count")
    parser.add_argument("--starts", type=int, default=1, help="of these rounds, with a clean stop")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--only", default="", help="failover or start")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the brokers")
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    for count, rounds in zip(options.counts, options.rounds, strict=True):
        measure(count, rounds, options, figures)
    report(figures, options)


def report(figures: Figures, options: Any) -> None:
    """Print what was measured."""
    for unit, digits in (("s", 2), ("CPU s", 2), ("MB", 0)):
        part = {
            name.partition("|")[2]: values
            for name, values in figures.items()
            if name.startswith(f"{unit}|")
        }
        goals: dict[str, Goal] = {}
        for name in part:
            for count in options.counts:
                if name.endswith(f" {count:,} partitions"):
                    if name.startswith("elected -> every") and count in GOALS_S:
                        goals[name] = GOALS_S[count]
                    elif "each replica taken up" in name:
                        goals[name] = START_GOAL
                    elif name.startswith("resident"):
                        goals[name] = MEMORY_GOAL
        table(f"{unit}: replication factor {options.replicas}", part, unit, digits, goals)


if __name__ == "__main__":
    main()
