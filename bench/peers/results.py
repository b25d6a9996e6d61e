"""The figures of a run, kept in a JSON file round by round, so that a run that was ended goes on where it was."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.peers.cells import CLIENT_BOUND_FROM, CLIENT_BUSY, OURS, Cell, Goal, Sample


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

    def __init__(self, kept: dict[str, Any]) -> None:
        """``kept`` is the object in the file."""
        self.kept = kept

    @property
    def samples(self) -> dict[str, list[Sample]]:
        """By contestant, a sample a round."""
        samples: dict[str, list[Sample]] = self.kept["samples"]
        return samples

    @property
    def rounds(self) -> int:
        """How many are complete."""
        return min((len(each) for each in self.samples.values()), default=0)

    def values(self, contestant: str, metric: str) -> list[float]:
        """A metric's values, a round each; empty where it has none."""
        return [each[metric] for each in self.samples.get(contestant, ()) if metric in each]

    def median(self, contestant: str, metric: str) -> float | None:
        """The median of a metric."""
        values = self.values(contestant, metric)
        return median(values) if values else None

    def floor(self, metric: str) -> float | None:
        """The median of what the machine itself takes."""
        values = [each[metric] for each in self.kept.get("floors", ()) if metric in each]
        return median(values) if values else None

    def ratio(self, metric: str, against: str, ours: str = OURS) -> Ratio | None:
        """Ours to another's, round by round; None where one of them lacks the metric."""
        pairs = list(zip(self.values(ours, metric), self.values(against, metric), strict=False))
        ratios = [one / other for one, other in pairs if other]
        return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None

    def client_bound(self, contestant: str) -> bool:
        """Whether a client's processor was full."""
        return (self.median(contestant, CLIENT_BUSY) or 0.0) >= CLIENT_BOUND_FROM

    def verdict(self, goal: Goal, ours: str = OURS) -> Verdict | None:
        """Whether a goal is met; None where there is nothing to judge by."""
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

    def __init__(self, path: Path) -> None:
        """It is read where it is there; raises ``ValueError`` where it is of another machine."""
        self.path = path
        self.kept: dict[str, Any] = {"machine": machine(), "versions": {}, "cells": {}}
        if path.exists():
            self.kept = json.loads(path.read_text())
            for name in ("cpus", "processor"):
                if self.kept["machine"][name] != machine()[name]:
                    raise ValueError(f"{path} is of another machine")

    def cell(self, cell: Cell) -> CellResult:
        """A cell's figures so far; what the file says of the cell itself is brought up to date."""
        kept = self.kept["cells"].setdefault(cell.name, {"samples": {}, "floors": [], "seconds": 0})
        kept |= {
            "table": cell.table,
            "title": cell.title,
            "durability": cell.durability,
            "notes": list(cell.notes),
            "parameters": dict(cell.parameters),
        }
        return CellResult(kept)

    def forget(self, cell: Cell) -> None:
        """Measure it anew."""
        self.kept["cells"].pop(cell.name, None)

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
