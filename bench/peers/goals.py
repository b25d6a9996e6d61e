"""The goals as they were set, a line each, and what became of them: a line is met when all its cells are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import NamedTuple

from bench.peers.cells import APACHE_KAFKA, FLOOR, Goal
from bench.peers.results import CellResult


class Work(NamedTuple):
    """A line: which cells' goals are counted for it. A goal belongs to the first line that it fits."""

    title: str
    wanted: str
    cells: tuple[str, ...]
    """Patterns of their names."""
    metrics: tuple[str, ...] = ("*",)
    against_floor: bool = False

    def fits(self, cell: str, goal: Goal) -> bool:
        """Whether a cell's goal is counted here."""
        return (
            self.against_floor == (goal.against == FLOOR)
            and any(fnmatch(cell, pattern) for pattern in self.cells)
            and any(fnmatch(goal.metric, pattern) for pattern in self.metrics)
        )


WORKS = (
    Work("start to first acknowledged record", "≤ 0.1 x", ("start/*",), ("ms",)),
    Work(
        "proportional set size, idle and under load",
        "≤ 0.2 x",
        ("memory/*",),
    ),
    Work(
        "saturation produce and fetch, 100 B, 1 KB, 10 KB records, 1 and 12 partitions, none and lz4: MB/s; broker CPU s/GB",
        "≥ 1.3 x; ≤ 0.5 x (100 B: ≤ 0.7 x)",
        ("saturation/*",),
    ),
    Work(
        "ProducerPerformance, ConsumerPerformance end to end",
        "≥ 1.0 x, or client-bound with ≤ 0.5 x the broker's CPU",
        ("programs/*", "performance/*", "*erformance/*"),
    ),
    Work(
        "small produce requests, one record each: 1, 16, 256 connections", "≥ 1.0 x", ("small/*",)
    ),
    Work("open-loop latency p50, p99 (p99.9 shown)", "≤ 1.0 x", ("latency/*",)),
    Work(
        "RF 3, three brokers on the machine, page cache on both sides; and synced on both",
        "≥ 1.0 x",
        ("replication/*",),
    ),
    Work(
        "10,000 partitions: create, start, memory; produce spread over all shown",
        "≤ 0.5 x",
        ("partitions/*",),
    ),
    Work(
        "500 group members, 5,000 idle connections",
        "p99 of others no worse than without them",
        ("crowd/*",),
    ),
    Work(
        "our producer and consumer, 100 B records/s, same guarantee and the same shape of call",
        "≥ 1.0 x confluent-kafka with the compiled codec, ≥ 5 x aiokafka; interpreted shown",
        ("clients/*",),
    ),
    Work(
        "the physical limit: 1 MB produce requests, beside a write to the page cache and a send of the same bytes",
        "within 2 x of their sum",
        ("saturation/*",),
        against_floor=True,
    ),
)
OTHERS = Work("others, beyond those that were set", "as in the tables", ("*",))


@dataclass
class Outcome:
    """What became of one line."""

    work: Work
    cells: set[str] = field(default_factory=set)
    """Those that goals are asked of."""
    met: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """In words, with the measured ratio."""
    failed: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """What was not measured, or not in all rounds."""

    @property
    def is_met(self) -> bool:
        """All of it."""
        return bool(self.met) and not (self.missed or self.failed or self.open)

    @property
    def unknown(self) -> int:
        """How many goals nobody can tell yet."""
        return len(self.failed) + len(self.open)

    @property
    def count(self) -> int:
        """Of how many cells' goals."""
        return sum(len(each) for each in (self.met, self.missed, self.failed, self.open))

    @property
    def what_misses(self) -> list[str]:
        """In lines; of what was not measured only the first is named."""
        lines = [*self.missed, *(f"{each}: failed" for each in self.failed)]
        if self.open:
            others = f" and {len(self.open) - 1} more" if len(self.open) > 1 else ""
            lines.append(f"not measured: {self.open[0]}{others}")
        return lines

    @property
    def word(self) -> str:
        """Met, missed, or neither yet."""
        if self.missed:
            return "**missed**"
        return "met" if self.is_met else "not measured"


def outcomes(cells: Sequence[CellResult], *, one_way: bool = False) -> list[Outcome]:
    """A line's outcome each, in the order in which they were set; the last one only where it has any.

    Where ours was run in several ways the goals of a cell are those of the way that meets all of them, or of the first
    where none does; with ``one_way`` of the first in any case.
    """
    found = [Outcome(work) for work in (*WORKS, OTHERS)]
    for cell in cells:
        way = cell.ours if one_way else cell.way_that_counts
        for goal in cell.goals:
            outcome = next((o for o in found if o.work.fits(cell.name, goal)), found[-1])
            outcome.cells.add(cell.name)
            _judge(outcome, cell, goal, way)
    return [o for o in found if o.work is not OTHERS or o.count]


def _judge(outcome: Outcome, cell: CellResult, goal: Goal, way: str) -> None:
    verdict = cell.verdict(goal, way)
    what = f"`{cell.name}` {goal.metric}"
    if cell.failed:
        outcome.failed.append(what)
    elif verdict is None or cell.rounds < cell.wanted_rounds:
        outcome.open.append(what)
    elif verdict.met:
        outcome.met.append(what)
    else:
        against = cell.floor_name if goal.against == FLOOR else goal.against
        who = f" to {against}" if against != APACHE_KAFKA else ""
        outcome.missed.append(f"{what}: {verdict.ratio.median:.2f} x for {goal}{who}")
