"""``make bench-peers``: run the cells that are not complete yet, each with alternating rounds, then write the report.

    python -m bench.peers [--results PATH] [--rounds N] [--again] [--list] [PATTERN ...]

Patterns (``saturation/*/1KB*``) choose cells by their names. A cell whose rounds are all in the results' file is not
run again unless ``--again`` says so: an ended run goes on where it was. A cell that fails is said to have failed, and
the others go on.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers.cells import Cell, Sample, Setting
from bench.peers.results import Results
from bench.peers.settings import all_settings

RESULTS = Path("build/bench-peers/figures.json")
BUDGET_S = 7200.0
"""All of it; a cell that would begin later is left for another run."""


def chosen(
    settings: Sequence[Setting], patterns: Sequence[str]
) -> list[tuple[Setting, list[Cell]]]:
    """The cells whose names match a pattern, or all."""
    found = []
    for setting in settings:
        cells = [
            cell
            for cell in setting.cells
            if not patterns or any(fnmatch.fnmatch(cell.name, pattern) for pattern in patterns)
        ]
        if cells:
            found.append((setting, cells))
    return found


def run_round(cell: Cell, contestants: Mapping[str, Any], number: int) -> dict[str, Sample]:
    """Every contestant's turn, beginning with another one each round."""
    names = [name for name in cell.contestants if name in contestants]
    first = number % len(names)
    samples = {}
    for name in names[first:] + names[:first]:
        samples[name] = cell.measure(contestants[name])
    return samples


def run_cell(cell: Cell, contestants: Mapping[str, Any], results: Results, rounds: int) -> None:
    """The rounds that are missing."""
    for number in range(results.cell(cell).rounds, rounds):
        started = time.monotonic()
        floor = None if cell.floor is None else cell.floor()
        samples = run_round(cell, contestants, number)
        results.add(cell, samples, floor, time.monotonic() - started)
    result = results.cell(cell)
    parts = []
    for goal in cell.goals:
        verdict = result.verdict(goal, cell.contestants[0])
        if verdict is not None:
            ratio = verdict.ratio
            word = "met" if verdict.met else "MISSED"
            parts.append(
                f"{goal.metric} {ratio.median:.2f} x ({ratio.least:.2f}-{ratio.most:.2f}), {goal}: {word}"
            )
    print(f"  {cell.name}: {'; '.join(parts) or 'measured'}", flush=True)


def run_setting(
    setting: Setting, cells: Sequence[Cell], results: Results, rounds: int, end: float
) -> int:
    """The cells of one setting that are not complete; how many failed."""
    missing = [c for c in cells if results.cell(c).rounds < min(c.rounds, rounds)]
    if not missing or time.monotonic() > end:
        return 0
    started, failed = time.monotonic(), 0
    print(f"== {setting.name}", flush=True)
    with setting.open() as contestants:
        print(f"  ready after {time.monotonic() - started:.0f} s", flush=True)
        for cell in missing:
            if time.monotonic() > end:
                break
            try:
                run_cell(cell, contestants, results, min(cell.rounds, rounds))
            except Exception as error:
                failed += 1
                results.failed(cell, f"{type(error).__name__}: {error}")
                print(f"  {cell.name}: FAILED", flush=True)
                traceback.print_exc()
    print(f"== {setting.name}: {time.monotonic() - started:.0f} s", flush=True)
    return failed


def main() -> int:
    """Run, and write the report; the number of cells that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="at most so many")
    parser.add_argument("--again", action="store_true", help="measure what is complete anew")
    parser.add_argument("--list", action="store_true", help="name the cells, run nothing")
    options = parser.parse_args()
    picked = chosen(all_settings(), options.patterns)
    if options.list:
        for setting, cells in picked:
            print(setting.name, *(f"  {cell.name}" for cell in cells), sep="\n")
        return 0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results = Results(options.results)
    if options.again:
        for _, cells in picked:
            for cell in cells:
                results.forget(cell)
    started, failed = time.monotonic(), 0
    for setting, cells in picked:
        failed += run_setting(setting, cells, results, options.rounds, started + BUDGET_S)
    print(f"{time.monotonic() - started:.0f} s in all, {failed} cells failed, {results.path}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
