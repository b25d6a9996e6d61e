"""The figures of a run, kept in a JSON file round by round, so that a run that was ended goes on where it was.

The file says of each cell all that the report needs, and of which sources of ours its figures are: those of others
are never added to them.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.peers.cells import (
    CLIENT_BOUND_FROM,
    CLIENT_BUSY,
    FLOOR,
    OURS,
    ROUNDS,
    Cell,
    Goal,
    Sample,
)
from bench.peers.revision import revision, source_digest

MEASURED = ("samples", "floors", "seconds", "ended", "failed", "source", "revision", "took")
"""What a cell's object in the file has from measuring; the rest says what the cell is."""


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

    def verdict(self, goal: Goal, ours: str | None = None) -> Verdict | None:
        """Whether a goal is met; None where there is nothing to judge by."""
        ours = goal.ours or ours or self.ours
        ratio = self.ratio(goal.metric, goal.against, ours)
        if ratio is None:
            return None
        bound = self.client_bound(ours) and self.client_bound(goal.against)
        met = goal.met_by(ratio.median)
        if not met and bound and goal.when_client_bound is not None:
            other = self.verdict(goal.when_client_bound, ours)
            met = other is not None and other.met
        return Verdict(goal, ratio, met, bound)


class Results:
    """The file."""

    def __init__(self, path: Path, *, anywhere: bool = False) -> None:
        """It is read where it is there; raises ``ValueError`` where it is of another machine, unless that may be."""
        self.path = path
        self.kept: dict[str, Any] = {"machine": machine(), "versions": {}, "cells": {}}
        if path.exists():
            self.kept = json.loads(path.read_text())
            for name in ("cpus", "processor"):
                if not anywhere and self.kept["machine"][name] != machine()[name]:
                    raise ValueError(f"{path} is of another machine")
        self.kept.setdefault("started_with", {})
        self.kept.setdefault("settings", {})

    def cell(self, cell: Cell) -> CellResult:
        """A cell's figures so far; what the file says of the cell itself is brought up to date."""
        kept = self.kept["cells"].setdefault(cell.name, _nothing_yet())
        kept |= {
            "table": cell.table,
            "title": cell.title,
            "durability": cell.durability,
            "contestants": list(cell.contestants),
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

    def is_of_these_sources(self, cell: Cell) -> bool:
        """Whether a cell's figures, if there are any, are of the sources of ours that lie here."""
        kept = self.cell(cell).kept
        return not kept["samples"] or kept.get("source") == source_digest()

    def forget(self, cell: Cell) -> None:
        """Measure it anew. How long a round took is kept, for estimates."""
        result = self.cell(cell)
        took = result.round_s
        for name in MEASURED:
            result.kept.pop(name, None)
        result.kept |= _nothing_yet() | ({} if took is None else {"took": took})

    def add(
        self, cell: Cell, samples: dict[str, Sample], floor: Sample | None, took: float
    ) -> None:
        """A round is complete; it is in the file when this returns."""
        kept = self.cell(cell).kept
        for contestant, sample in samples.items():
            kept["samples"].setdefault(contestant, []).append(sample)
        if floor is not None:
            kept["floors"].append(floor)
        kept["seconds"] += took
        kept["ended"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kept |= {"source": source_digest(), "revision": revision()}
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


def goal_of(kept: dict[str, Any]) -> Goal:
    """A goal as the file has it."""
    bound = kept.get("when_client_bound")
    return Goal(**kept | {"when_client_bound": None if bound is None else goal_of(bound)})


def _nothing_yet() -> dict[str, Any]:
    return {"samples": {}, "floors": [], "seconds": 0}


def machine() -> dict[str, Any]:
    """What figures are of."""
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
