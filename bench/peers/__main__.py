"""``make bench-peers``: run the cells that are not complete yet, each with alternating rounds, then write the report.

    python -m bench.peers [--results PATH] [--report PATH] [--rounds N] [--minutes N] [--again] [--keep] [--list]
                          [PATTERN ...]

Patterns (``saturation/*/1KB*``) choose cells by their names. A cell whose rounds are all in the results' file is not
run again unless ``--again`` says so: an ended run goes on where it was. Cells whose figures are of other sources of
ours, of other versions, or were measured in another way, are measured anew, unless ``--keep`` says that the complete
ones are to stand. A cell that fails is said to have failed, and the others go on. SIGINT ends a run at any time: complete rounds stay, and no process is left.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bench.peers import at_hand, report
from bench.peers.results import Results
from bench.peers.runner import Run, chosen, leaving_nothing
from bench.peers.settings import all_settings
from bench.peers.versions import versions

BUDGET_MIN = 117.0
"""All of it, with the report: a cell that would not be done by then is left for another run."""
INTERRUPTED = 130


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    parser.add_argument(
        "--report",
        type=Path,
        help=f"default: beside the results; {report.DOCUMENT} is the repository's",
    )
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="at most so many")
    parser.add_argument("--minutes", type=float, default=BUDGET_MIN, help="begin no cell later")
    parser.add_argument("--again", action="store_true", help="measure what is complete anew")
    parser.add_argument(
        "--keep", action="store_true", help="let complete cells of other sources or versions stand"
    )
    parser.add_argument("--list", action="store_true", help="name the cells, run nothing")
    return parser.parse_args(arguments)


def main() -> int:
    """Run, and write the report; the number of cells that failed."""
    options = options_of()
    picked = chosen(all_settings(), options.patterns)
    if options.list:
        for setting, cells in picked:
            print(setting.name, *(f"  {cell.name}" for cell in cells), sep="\n")
        return 0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        results = Results(options.results, versions=versions())
    except ValueError as error:
        print(f"{error}: --results says where those of this one shall be", file=sys.stderr)
        return 1
    results.arrange([cell for setting in all_settings() for cell in setting.cells])
    for cell in (cell for _, cells in picked for cell in cells):
        stands = options.keep and results.cell(cell).rounds >= min(cell.rounds, options.rounds)
        if options.again or not (stands or results.is_of_these_sources(cell)):
            results.forget(cell)
    started, interrupted = time.monotonic(), False
    run = Run(picked, results, rounds=options.rounds, budget_s=options.minutes * 60)
    try:
        with leaving_nothing(), at_hand.kept():
            run.all()
    except KeyboardInterrupt:
        interrupted = True
        print("ended; run it again to go on from here")
    results.write()
    document = options.report or options.results.with_name("benchmarks.md")
    report.write(results, document)
    took = time.monotonic() - started
    print(f"{took:.0f} s in all, {len(run.failed)} cells failed, {options.results}, {document}")
    return INTERRUPTED if interrupted else len(run.failed)


if __name__ == "__main__":
    sys.exit(main())
