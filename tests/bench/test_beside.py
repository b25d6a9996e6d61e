"""What else took processor time, and memory that is kept at hand: what is counted, and what is left when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import at_hand
from bench.peers.beside import OTHERS, STOLEN, WAITING, Process, looked_at, others_seconds
from bench.peers.processes import children

pytestmark = pytest.mark.skipif(not Path("/proc/buddyinfo").exists(), reason="reads /proc")

OWN, CHILD, GRANDCHILD, OTHER, KERNELS = 10, 11, 12, 20, 2


def process(seconds: float, parent: int = 1, *, is_kernels: bool = False) -> Process:
    return Process(parent, is_kernels, seconds)


def test_other_programs_are_neither_ours_nor_the_kernels_own() -> None:
    before = {
        OWN: process(1.0),
        CHILD: process(1.0, OWN),
        OTHER: process(3.0),
        KERNELS: process(1.0, is_kernels=True),
    }
    after = {
        OWN: process(2.0),
        CHILD: process(5.0, OWN),
        GRANDCHILD: process(7.0, CHILD),
        OTHER: process(3.5),
        KERNELS: process(9.0, is_kernels=True),
    }
    assert others_seconds(before, after, OWN) == 0.5


def test_a_process_that_has_begun_or_ended_meanwhile_counts_for_what_it_took_meanwhile() -> None:
    before = {OWN: process(1.0), OTHER: process(3.0), OTHER + 1: process(20.0, OTHER)}
    after = {OWN: process(1.0), OTHER: process(3.0 + 20.25), OTHER + 2: process(0.5)}
    assert others_seconds(before, after, OWN) == 0.75
    nobody_waited = {OWN: process(1.0), OTHER: process(3.0)}
    assert others_seconds(before, nobody_waited, OWN) == 0.0


def test_the_broker_of_a_turn_is_none_that_waits_under_any_name() -> None:
    class Broker:
        spent = 0.0

        def cpu_seconds(self) -> float:
            return self.spent

    class Alone:
        def __init__(self, running: Broker) -> None:
            self.running = running

    broker = Broker()
    with looked_at({"a": broker, "a, no crowd": Alone(broker)}, "a, no crowd") as found:
        broker.spent = 1000.0
    assert found[WAITING] == 0.0
    assert found[STOLEN] >= 0.0
    assert found[OTHERS] >= 0.0


def test_what_is_free_is_told_by_its_pieces() -> None:
    page = os.sysconf("SC_PAGESIZE")
    told = (
        "Node 0, zone    DMA32      1      2      0\nNode 0, zone   Normal      5      0      3\n"
    )
    assert at_hand.free_by_order(told) == [6 * page, 4 * page, 12 * page]


def test_thinned_out_memory_holds_a_page_of_each_block() -> None:
    blocks = 4
    program = (
        "from bench.peers.at_hand import BLOCK_BYTES, thin_out, touched\n"
        f"part = touched({blocks} * BLOCK_BYTES)\n"
        "before = open('/proc/self/statm').read().split()[1]\n"
        "thin_out(part)\n"
        "after = open('/proc/self/statm').read().split()[1]\n"
        "print(int(before) - int(after), [part[at] for at in range(0, len(part), BLOCK_BYTES)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    pages = at_hand.BLOCK_BYTES // os.sysconf("SC_PAGESIZE")
    freed, _, held = done.stdout.partition(" ")
    assert held == f"{[1] * blocks}\n"
    # the counter of a process's pages may be some pages behind
    assert int(freed) >= blocks * (pages - 1) - pages // 4


def test_nobody_keeps_memory_once_the_benchmark_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "in_pieces", lambda: 0)
    before = children(os.getpid())
    with at_hand.kept(gigabytes=0.0):
        assert children(os.getpid()) == before
        at_hand.want(at_hand.PART_BYTES / at_hand.SPARE)
        assert len(children(os.getpid())) == len(before) + 1
    assert children(os.getpid()) == before


def test_memory_that_is_at_hand_is_not_kept_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "in_pieces", lambda: 1 << 40)
    before = children(os.getpid())
    with at_hand.kept():
        at_hand.want(1e9)
        assert children(os.getpid()) == before
