"""The figures of a run, kept in a JSON file round by round, so that a run that was ended goes on where it was.

The file says of each cell all that the report needs, and how its figures came about: a digest of our sources, of what
measures, of the machine and of the versions of all that takes part. Figures of another digest are never added to them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.peers.beside import Beside
from bench.peers.cells import (
    CLIENT_BOUND_FROM,
    CLIENT_BUSY,
    FLOOR,
    MACHINE_BOUND_FROM,
    MACHINE_BUSY,
    OURS,
    ROUNDS,
    Cell,
    Goal,
    Sample,
)
from bench.peers.revision import DIGITS, measuring_digest, revision, source_digest

MEASURED = (
    "samples",
    "floors",
    "beside",
    "seconds",
    "ended",
    "failed",
    "source",
    "revision",
    "took",
)
"""What a cell's object in the file has from measuring; the rest says what the cell is."""


DISTURBED_FROM = 0.05
"""What else ran is told from this part of all processors' time on."""


class Ratio(NamedTuple):
    """Ours to another's: the median of the rounds, and their range."""

    median: float
    least: float
    most: float


class Verdict(NamedTuple):
    """What became of a goal."""

    goal: Goal
    ratio: Ratio
    met: bool
    client_bound: bool
    sure: bool = True
    """Whether the whole range says the same as the median."""


class CellResult:
    """One cell's figures: a sample a round and contestant."""

    def __init__(self, kept: dict[str, Any], name: str = "") -> None:
        """``kept`` is the object in the file."""
        self.kept = kept
        self.name = name

    @property
    def samples(self) -> dict[str, list[Sample]]:
        """By contestant, a sample a round."""
        samples: dict[str, list[Sample]] = self.kept["samples"]
        return samples

    @property
    def contestants(self) -> list[str]:
        """Who is to be measured, whether or not it was."""
        return list(self.kept.get("contestants") or self.samples)

    @property
    def ours(self) -> str:
        """The contestant that ratios are of."""
        return self.contestants[0] if self.contestants else OURS

    @property
    def ways(self) -> list[str]:
        """The ways in which ours was run and is judged: the first contestant, and those that are ours, too."""
        return [self.ours, *(name for name in self.kept.get("also", ()) if self.samples.get(name))]

    @property
    def way_that_counts(self) -> str:
        """The first way to run ours that meets every goal of the cell, or the first of all where none does.

        So no goal is met in one way and the next in another.
        """
        for way in self.ways:
            verdicts = [self.verdict(goal, way) for goal in self.goals]
            if verdicts and all(verdict is not None and verdict.met for verdict in verdicts):
                return way
        return self.ours

    @property
    def floor_name(self) -> str:
        """What of the machine its floors are."""
        name: str = self.kept.get("floor_name", FLOOR)
        return name

    @property
    def absent(self) -> list[str]:
        """Contestants that have no figures, where others have."""
        return [name for name in self.contestants if self.samples and not self.samples.get(name)]

    @property
    def goals(self) -> list[Goal]:
        """What is to come out, as the file has it."""
        return [goal_of(each) for each in self.kept.get("goals", ())]

    @property
    def failed(self) -> str:
        """Why the last round was not completed; empty where it was."""
        why: str = self.kept.get("failed", "")
        return why

    @property
    def rounds(self) -> int:
        """How many are complete."""
        return min((len(each) for each in self.samples.values()), default=0)

    @property
    def wanted_rounds(self) -> int:
        """How many there are to be."""
        return int(self.kept.get("rounds", ROUNDS))

    @property
    def round_s(self) -> float | None:
        """The seconds that a round takes, or took the last time; None where there was none."""
        if self.rounds:
            return float(self.kept["seconds"]) / self.rounds
        took: float | None = self.kept.get("took")
        return took

    def values(self, contestant: str, metric: str) -> list[float]:
        """A metric's values, a round each; empty where it has none. ``FLOOR`` is a contestant, too."""
        if contestant == FLOOR:
            each_round: Iterable[Sample] = self.kept.get("floors", ())
        else:
            each_round = self.samples.get(contestant, ())
        return [each[metric] for each in each_round if metric in each]

    def median(self, contestant: str, metric: str) -> float | None:
        """The median of a metric."""
        values = self.values(contestant, metric)
        return median(values) if values else None

    def floor(self, metric: str) -> float | None:
        """The median of what the machine itself takes."""
        return self.median(FLOOR, metric)

    def ratio(self, metric: str, against: str, ours: str | None = None) -> Ratio | None:
        """Ours to another's, round by round; None where one of them lacks the metric."""
        mine = self.values(ours or self.ours, metric)
        pairs = list(zip(mine, self.values(against, metric), strict=False))
        ratios = [one / other for one, other in pairs if other]
        return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None

    def client_bound(self, contestant: str) -> bool:
        """Whether a client's processor was full."""
        return (self.median(contestant, CLIENT_BUSY) or 0.0) >= CLIENT_BOUND_FROM

    def machine_bound(self, contestant: str) -> bool:
        """Whether all processors were full, of the client and the broker together."""
        return (self.median(contestant, MACHINE_BUSY) or 0.0) >= MACHINE_BOUND_FROM

    @property
    def above_floor(self) -> list[str]:
        """Contestants that are better than the machine itself in what a goal is against: then it is no floor."""
        return list(
            dict.fromkeys(
                name
                for goal in self.goals
                if goal.against == FLOOR
                for name in self.contestants
                if self._beats_floor(name, goal)
            )
        )

    def _beats_floor(self, contestant: str, goal: Goal) -> bool:
        value, floor = self.median(contestant, goal.metric), self.floor(goal.metric)
        if value is None or floor is None:
            return False
        return value > floor if goal.at_least is not None else value < floor

    @property
    def disturbed(self) -> list[str]:
        """In words, by contestant, the rounds in which something else took more than a little of the processors."""
        found = []
        for contestant, rounds in self.kept.get("beside", {}).items():
            for number, beside in enumerate(rounds, 1):
                found += [
                    f"{contestant}, round {number}: {what} {part:.0%} of the processors"
                    for what, part in beside.items()
                    if part > DISTURBED_FROM
                ]
        return found

    def verdict(self, goal: Goal, ours: str | None = None) -> Verdict | None:
        """Whether a goal is met; None where there is nothing to judge by, as is a floor that someone was better than."""
        ours = goal.ours or ours or self.ours
        ratio = self.ratio(goal.metric, goal.against, ours)
        if ratio is None:
            return None
        if goal.against == FLOOR and any(self._beats_floor(n, goal) for n in self.contestants):
            return None
        bound = self.client_bound(ours) and self.client_bound(goal.against)
        met = goal.met_by(ratio.median)
        if not met and bound and goal.when_client_bound is not None:
            other = self.verdict(goal.when_client_bound, ours)
            if other is not None and other.met:
                return Verdict(goal, ratio, True, bound, other.sure)
        sure = all(goal.met_by(each) == met for each in (ratio.least, ratio.most))
        return Verdict(goal, ratio, met, bound, sure)


class Results:
    """The file."""

    def __init__(
        self, path: Path, *, anywhere: bool = False, versions: Mapping[str, str] | None = None
    ) -> None:
        """It is read where it is there; raises ``ValueError`` where it is of another machine, unless that may be.

        ``versions`` are those of all that takes part now, where something is to be measured.
        """
        self.path = path
        self._versions = dict(versions or {})
        self.kept: dict[str, Any] = {
            "machine": machine(),
            "versions": self._versions,
            "cells": {},
        }
        if path.exists():
            self.kept = json.loads(path.read_text())
            for name in ("cpus", "processor"):
                if not anywhere and self.kept["machine"][name] != machine()[name]:
                    raise ValueError(f"{path} is of another machine")
        for name in ("started_with", "settings", "methods"):
            self.kept.setdefault(name, {})

    def cell(self, cell: Cell) -> CellResult:
        """A cell's figures so far; what the file says of the cell itself is brought up to date."""
        kept = self.kept["cells"].setdefault(cell.name, _nothing_yet())
        kept |= {
            "table": cell.table,
            "title": cell.title,
            "durability": cell.durability,
            "contestants": list(cell.contestants),
            "also": list(cell.also),
            "floor_name": cell.floor_name,
            "goals": [asdict(goal) for goal in cell.goals],
            "rounds": cell.rounds,
            "notes": list(cell.notes),
            "parameters": dict(cell.parameters),
        }
        return CellResult(kept, cell.name)

    def arrange(self, cells: Sequence[Cell]) -> None:
        """Bring what the file says of all the cells up to date, in their order; others are kept as ``gone``."""
        known = {cell.name: self.cell(cell).kept for cell in cells}
        for kept in known.values():
            kept.pop("gone", None)
        others = {n: kept for n, kept in self.kept["cells"].items() if n not in known}
        for kept in others.values():
            kept["gone"] = True
        self.kept["cells"] = known | others

    def digest(self) -> str:
        """Of all that a figure depends on: the same where the same would be measured in the same way."""
        others = {name: told for name, told in self._versions.items() if name != OURS}
        here = {name: told for name, told in machine().items() if name != "memory_gb"}
        parts = [source_digest(), measuring_digest(), here, others]
        told = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:DIGITS]

    def is_of_these_sources(self, cell: Cell) -> bool:
        """Whether a cell's figures, if there are any, are of what lies here, and were taken as they are taken now."""
        kept = self.cell(cell).kept
        return not kept["samples"] or kept.get("source") == self.digest()

    def forget(self, cell: Cell) -> None:
        """Measure it anew. How long a round took is kept, for estimates."""
        result = self.cell(cell)
        took = result.round_s
        for name in MEASURED:
            result.kept.pop(name, None)
        result.kept |= _nothing_yet() | ({} if took is None else {"took": took})

    def add(
        self,
        cell: Cell,
        samples: dict[str, Sample],
        floor: Sample | None,
        took: float,
        beside: Mapping[str, Beside] | None = None,
    ) -> None:
        """A round is complete; it is in the file when this returns."""
        kept = self.cell(cell).kept
        for contestant, sample in samples.items():
            kept["samples"].setdefault(contestant, []).append(sample)
            told = {
                word: round(part, 4) for word, part in (beside or {}).get(contestant, {}).items()
            }
            kept.setdefault("beside", {}).setdefault(contestant, []).append(told)
        if floor is not None:
            kept["floors"].append(floor)
        kept["seconds"] += took
        kept["ended"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        method = self.digest()
        kept |= {"source": method, "revision": revision()}
        now = {"machine": machine(), "versions": self._versions or self.kept["versions"]}
        self.kept["methods"][method] = now
        self.kept |= now | {"method": method}
        kept.pop("failed", None)
        self.write()

    def failed(self, cell: Cell, why: str) -> None:
        """A cell could not be measured."""
        self.cell(cell).kept["failed"] = why
        self.write()

    def write(self) -> None:
        """Write the file, whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps(self.kept, indent=1, ensure_ascii=False) + "\n")
        beside.rename(self.path)


def otherwise_measured(kept: dict[str, Any], cells: Sequence[CellResult]) -> list[str]:
    """In words, which cells are not of the versions and the way to measure that most have, or the last ones of as many."""
    by_method: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.rounds:
            by_method.setdefault(cell.kept.get("source", ""), []).append(cell)
    last = kept.get("method")
    by_method.pop(max(by_method, key=lambda m: (len(by_method[m]), m == last), default=""), None)
    found = []
    for method, its in by_method.items():
        known = kept.get("methods", {}).get(method)
        if known is None:
            words = "of which versions is not known"
        else:
            here = {**kept["machine"], **kept["versions"]}
            there = {**known["machine"], **known["versions"]}
            other = [f"{n} {told}" for n, told in there.items() if here.get(n) != told]
            words = f"with {', '.join(other)}" if other else "with the same versions"
        names = ", ".join(f"`{cell.name}`" for cell in its)
        found.append(f"Of other sources or measured in another way, {words}: {names}.")
    return found


def goal_of(kept: dict[str, Any]) -> Goal:
    """A goal as the file has it."""
    bound = kept.get("when_client_bound")
    return Goal(**kept | {"when_client_bound": None if bound is None else goal_of(bound)})


def _nothing_yet() -> dict[str, Any]:
    return {"samples": {}, "floors": [], "seconds": 0}


def machine() -> dict[str, Any]:
    """What figures are of."""
    return dict(_machine())


@cache
def _machine() -> dict[str, Any]:
    processor = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpus": os.cpu_count(),
        "processor": processor,
        "memory_gb": round(memory_kb / (1 << 20)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "java": _java_version(),
    }


def _java_version() -> str:
    try:
        done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stderr.partition("\n")[0]
