"""What programs of others print is understood as they mean it, and whose processors were full is seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers.cells import CLIENT_BUSY, MACHINE_BUSY, Sample
from bench.peers.products import Running
from bench.peers.programs import CONSUMERS, WORKS, cells, require_written, run, sample
from bench.peers.tools import (
    CONFLUENT_CONSUMER,
    CONFLUENT_PRODUCER,
    LINES,
    Program,
    Task,
    Told,
    java_consumer_told,
    java_producer_told,
    payload_file,
    rdkafka_consumer_told,
    rdkafka_producer_told,
)
from bench.peers.watching import Busy, Look, Watch, busy, cores, thread_seconds
from ottla.testing import Broker

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="reads /proc/PID/schedstat"
)

PRODUCER = """\
Reading payloads from: /tmp/lines.txt
Number of messages read: 1000
310012 records sent, 61990.0 records/sec (59.12 MB/sec), 12.1 ms avg latency, 300.0 ms max latency.
600000 records sent, 92393.2 records/sec (88.11 MB/sec), 1.84 ms avg latency, 236.00 ms max latency, 1 ms 50th, 3 ms 95th, 12 ms 99th, 35 ms 99.9th.
480000 steady state records sent, 112676.06 records/sec (107.46 MB/sec), 1.12 ms avg latency, 36.00 ms max latency, 1 ms 50th, 2 ms 95th, 9 ms 99th, 30 ms 99.9th.
"""
CONSUMER = """\
2026-11-23 05:10:00:001, 2026-11-23 05:10:04:001, 1430.5115, 357.6279, 1500000, 375000.0000, 500, 3500, 408.7176, 428571.4286
"""
RDKAFKA_PRODUCER = """\
%4|1795410000.1|CONFWARN|rdkafka#producer-1| [thrd:app]: Configuration property x is a consumer property
% 500000 messages produced (500000000 bytes), 500000 delivered (offset 499999, 0 failed) in 3609ms: 138536 msgs/s and 138.54 MB/s, 451 produce failures, 0 in queue, no compression
"""
RDKAFKA_CONSUMER = """\
% 500000 messages (500000000 bytes) consumed in 1207ms: 414061 msgs/s (414.06 MB/s)
% fetch latency: 0ms
"""


def test_producer_performance_is_told_by_its_steady_state() -> None:
    assert java_producer_told(PRODUCER) == Told(600_000, 112_676.06)


def test_consumer_performance_is_told_without_the_join_of_its_group() -> None:
    warned = "WARNING: Exiting before consuming the expected number of messages\n" + CONSUMER
    assert java_consumer_told(warned) == Told(1_500_000, 428_571.4286)


def test_rdkafka_performance_is_told_by_what_was_delivered() -> None:
    assert rdkafka_producer_told(RDKAFKA_PRODUCER) == Told(500_000, 138_536)
    lost = RDKAFKA_PRODUCER.replace("500000 delivered", "499000 delivered")
    assert rdkafka_producer_told(lost) == Told(499_000, 138_536)
    assert rdkafka_consumer_told(RDKAFKA_CONSUMER) == Told(500_000, 414_061)


@pytest.mark.parametrize(
    "told",
    [java_producer_told, java_consumer_told, rdkafka_producer_told, rdkafka_consumer_told],
)
def test_an_output_without_a_result_is_no_figure(told: object) -> None:
    assert callable(told)
    with pytest.raises(ValueError, match="not understood: no broker"):
        told("no broker")


def test_a_client_without_a_full_thread_is_not_the_limit_where_all_processors_are_full() -> None:
    all_that_the_broker_leaves = Busy(client_thread=0.6, client=1.4, broker_thread=0.4, broker=0.5)
    found = figures(all_that_the_broker_leaves)
    assert found[CLIENT_BUSY] == 0.6
    assert found[MACHINE_BUSY] == pytest.approx(1.9 / cores())
    one_of_its_threads = Busy(client_thread=0.95, client=1.0, broker_thread=0.4, broker=0.5)
    assert figures(one_of_its_threads)[CLIENT_BUSY] == 0.95


def figures(seen: Busy) -> Sample:
    task = Task("127.0.0.1:1", "topic", record_bytes=100, records=1_000)
    return sample(task, Told(1_000, 1e6), seen, cpu=0.25)


def test_the_start_and_the_end_of_a_program_are_not_looked_at() -> None:
    looks = [
        Look(0.0, {1: 0.0}, {7: 0.0}),
        Look(5.0, {1: 5.0, 2: 0.5}, {7: 0.0}),
        Look(8.0, {1: 5.3, 2: 3.2}, {7: 1.5}),
        Look(10.0, {1: 5.3}, {7: 1.5}),
    ]
    seen = busy(looks)
    assert seen.client_thread == pytest.approx(0.9)
    assert seen.client == pytest.approx(1.0)
    assert (seen.broker_thread, seen.broker) == (pytest.approx(0.5), pytest.approx(0.5))


def test_the_last_seconds_are_looked_at_where_it_is_known_that_they_count() -> None:
    looks = [
        Look(0.0, {1: 0.0}, {7: 0.0}),
        Look(8.0, {1: 0.5}, {7: 0.0}),
        Look(9.0, {1: 1.4}, {7: 0.5}),
        Look(10.0, {1: 2.3}, {7: 1.0}),
    ]
    seen = busy(looks, last_s=2.0)
    assert (seen.client_thread, seen.broker) == (pytest.approx(0.9), pytest.approx(0.5))


def test_a_program_that_spins_is_seen_to() -> None:
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    waiting = subprocess.Popen(["sleep", "1000"])
    try:
        watch = Watch(spinning.pid, [waiting.pid])
        while thread_seconds([spinning.pid])[spinning.pid] < 0.5:
            pass
    finally:
        seen = watch.end()
        for process in (spinning, waiting):
            process.kill()
            process.wait()
    assert seen.client_thread == seen.client > 0.0  # it has one thread
    assert seen.broker_thread == seen.broker < 0.1 * seen.client


def test_figures_are_of_values_and_of_the_brokers_time_for_all_of_them() -> None:
    task = Task("127.0.0.1:1", "topic", record_bytes=100, records=5_000_000)
    found = sample(task, Told(5_000_000, 1e6), Busy(0.9, 1.2, 0.3, 0.4), cpu=0.25)
    assert (found["MB/s"], found["CPU s/GB"], found[CLIENT_BUSY]) == (100.0, 0.5, 0.9)


def test_lines_are_of_the_wanted_size() -> None:
    lines = payload_file(100).read_bytes().split(b"\n")
    assert len(lines) == LINES
    assert {len(line) for line in lines} == {100}


def test_cells_have_names_of_their_own_and_one_goal() -> None:
    found = cells()
    assert len({cell.name for cell in found}) == len(found) == len(WORKS)
    for cell, work in zip(found, WORKS, strict=True):
        (goal,) = cell.goals
        assert goal.when_client_bound is not None
        assert work.reads == (work.program in CONSUMERS)


class OneBroker:
    """As much of ``Running`` as a program needs."""

    def pids(self) -> list[int]:
        return []


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_confluent_kafka_reads_what_it_wrote(codec: str) -> None:
    with Broker() as broker:
        task = Task(broker.bootstrap, "programs", 100, 2_000, -1, codec)
        for program in (CONFLUENT_PRODUCER, CONFLUENT_CONSUMER):
            told, _ = run(program, task, OneBroker())  # type: ignore[arg-type]
            assert told.records == task.records
            assert told.records_per_s > 0


def test_what_a_producer_says_is_looked_for_in_the_partition(tmp_path: Path) -> None:
    with Broker() as broker:
        running = Running("Ottla", [broker.port], tmp_path)
        task = Task(broker.bootstrap, "programs", 100, 500)
        run(CONFLUENT_PRODUCER, task, running)
        require_written(running, "programs", 500)
        with pytest.raises(RuntimeError, match="Ottla has 500 of 501 records"):
            require_written(running, "programs", 501)


def test_a_program_that_did_less_than_its_task_has_failed() -> None:
    command = [sys.executable, "-c", 'print(\'{"records": 1, "records_per_s": 5}\')']
    lazy = Program("lazy", lambda task: command, CONFLUENT_PRODUCER.told)
    task = Task("127.0.0.1:1", "programs", 100, 2)
    with pytest.raises(RuntimeError, match="lazy did 1 of 2"):
        run(lazy, task, OneBroker())  # type: ignore[arg-type]
