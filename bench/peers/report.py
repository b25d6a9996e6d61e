"""The report: ``docs/benchmarks.md`` from the results' JSON, a copy of which lies beside it, with plots.

python -m bench.peers.report [--results PATH] [--document PATH]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bench.peers import plots
from bench.peers.goals import Outcome, outcomes
from bench.peers.notes import LEFT_OUT, UNLIKE
from bench.peers.results import CellResult, Results, otherwise_measured
from bench.peers.tables import DURABILITY, notes_of, row, table

RESULTS = Path("build/bench-peers/figures.json")
DOCUMENT = Path("docs/benchmarks.md")
COPY = "figures.json"


def cells_of(results: Results) -> list[CellResult]:
    """All that the benchmark has, in its order."""
    return [
        CellResult(kept, name)
        for name, kept in results.kept["cells"].items()
        if not kept.get("gone") and "title" in kept
    ]


def write(results: Results, document: Path) -> None:
    """Write the document; beside it, in a directory of its name, the plots and the copy of the figures."""
    beside = document.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    copy = json.dumps(results.kept, indent=1, ensure_ascii=False) + "\n"
    (beside / COPY).write_text(copy)
    cells = cells_of(results)
    made = plots.write(cells, beside, machine_title(results.kept["machine"]))
    document.write_text(text(results.kept, cells, made, beside.name))


def machine_title(machine: dict[str, Any]) -> str:
    """How tables name the machine."""
    cpus = machine["cpus"]
    return f"{cpus} core{'s' if cpus != 1 else ''}"


def text(kept: dict[str, Any], cells: list[CellResult], made: list[plots.Plot], place: str) -> str:
    """All of the document."""
    lines = [
        *_opening(kept, cells),
        *_goals(cells),
        *_how_to_read(kept),
        *_plots(made, place),
        *_tables(kept, cells),
        *_left_out(),
        *_products(kept, cells),
        *_again(place),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _opening(kept: dict[str, Any], cells: list[CellResult]) -> list[str]:
    machine = kept["machine"]
    ends = sorted(cell.kept["ended"] for cell in cells if cell.kept.get("ended"))
    when = (
        " to ".join(end[:16].replace("T", " ") for end in (ends[0], ends[-1])) if ends else "never"
    )
    processor = machine["processor"] or "a processor without a name"
    return [
        "# Ottla beside Apache Kafka and others",
        "",
        "`make bench-peers` has measured and written all of this page (`bench/peers/`); nothing in it is by hand.",
        "",
        f"The machine: **{machine_title(machine)}** ({processor}), {machine['memory_gb']} GB, {machine['system']}, "
        f"Python {machine['python']}, {machine['java'] or 'no Java'}. Measured {when} (UTC).",
        "",
    ]


def _goals(cells: list[CellResult]) -> list[str]:
    """What became of the goals: a row for each kind of work, what misses it, and all together."""
    found = outcomes(cells)
    met = sum(len(each.met) for each in found)
    missed = sum(len(each.missed) for each in found)
    count = sum(each.count for each in found)
    head = (
        "work",
        "goal: ratio to Apache Kafka in the same run",
        "",
        "cells",
        "goals met",
        "missed",
    )
    lines = [
        "## Goals",
        "",
        f"**{met} of {count} goals are met**; missed: {missed}; not measured in full: {count - met - missed}. A goal is of "
        "one figure of one cell, and met by the median of its rounds' ratios. "
        f"{sum(each.is_met for each in found)} of {len(found)} kinds of work meet all of theirs.",
        "",
        *_ways(cells, met),
        row((*head, "what misses")),
        "|---|---|---|---:|---:|---:|---|",
    ]
    for each in found:
        misses = "<br>".join(each.what_misses)
        lines.append(row([each.work.title, each.work.wanted, each.word, *_counts([each]), misses]))
    lines.append(row(["**all**", "", "", *_counts(found), ""]))
    failed = [f"`{cell.name}`" for cell in cells if cell.failed]
    lines += ["", f"Failed cells: {'; '.join(failed) or 'none'}.", ""]
    return lines


def _counts(found: list[Outcome]) -> list[str]:
    """How many cells, how many goals of how many are met, how many are missed."""
    cells = len({name for each in found for name in each.cells})
    met = f"{sum(len(each.met) for each in found)} of {sum(each.count for each in found)}"
    return [f"{cells}", met, f"{sum(len(each.missed) for each in found)}"]


def _ways(cells: list[CellResult], met: int) -> list[str]:
    """Where ours was run in several ways: which one is counted, and what the first alone would come to."""
    ways = list(dict.fromkeys(way for cell in cells for way in cell.ways[1:]))
    if not ways:
        return []
    told = [f"`{c.name}` ({c.way_that_counts})" for c in cells if c.way_that_counts != c.ours]
    alone = sum(len(each.met) for each in outcomes(cells, one_way=True))
    return [
        f"Some cells have Ottla in another way as well ({', '.join(ways)}), and the tables judge both. Counted here is one way for "
        "all goals of a cell: one process, or another way where only that meets every one of them; never one goal by one and the "
        f"next by another. Counted by another way than one process: {', '.join(told) or 'none'}. By one process alone "
        f"{alone} goals are met in the place of {met}.",
        "",
    ]


def _how_to_read(kept: dict[str, Any]) -> list[str]:
    """What every figure has in it."""
    return [
        "## How to read it",
        "",
        "- Brokers and clients share these cores, and the machine's speed varies from minute to minute: an absolute figure here says "
        "little. Every round gives the same work to each in turn, and a ratio is of two figures of one round; tables have the "
        'median of the rounds\' ratios with its range, and the medians of the figures themselves. "Not in all rounds": a '
        "part of the range is on the other side of the goal.",
        f"- What is measured here is a machine with {machine_title(kept['machine'])}. A load generator takes up to one of them, and "
        "one process of Ottla little more than one, since its Python is one thread; Apache Kafka's threads (eight for requests, three "
        "for the network) use all that there are. Two cores do not show that: with eight or more, and one process of "
        "Ottla, ratios of what is taken at most may well be the other way round. CPU seconds depend on that far less.",
        f"- {UNLIKE}",
        "- CPU seconds are of all the broker's processes: of Ottla's clusters those of ZooKeeper are in them, and what the kernel's own "
        "threads do for a broker (writing pages back, syncs) is in nobody's. PSS is the proportional set size, in MB of 2^20 "
        "bytes; all other MB and GB are of 10^6 and 10^9.",
        "- Kinds of durability are never mixed in a ratio.",
        "",
    ]


def _left_out() -> list[str]:
    """Who could be asked for, and is not here."""
    return ["## Left out", "", *(f"- {each}" for each in LEFT_OUT), ""]


def _plots(made: list[plots.Plot], place: str) -> list[str]:
    lines = []
    for plot in made:
        lines += [f"![{plot.title}]({place}/{plot.file})", ""]
    return lines


def _tables(kept: dict[str, Any], cells: list[CellResult]) -> list[str]:
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault((cell.kept["table"], cell.kept["durability"]), []).append(cell)
    lines = []
    for (title, durability), rows in groups.items():
        lines += [f"## {title} ({machine_title(kept['machine'])})", ""]
        if words := DURABILITY.get(durability, durability):
            lines += [words, ""]
        lines += [*table(rows), ""]
        if notes := notes_of(rows):
            lines += [*notes, ""]
    return lines


def _products(kept: dict[str, Any], cells: list[CellResult]) -> list[str]:
    lines = ["## Versions and settings", "", row(("what", "version")), "|---|---|"]
    lines += [row((name, version)) for name, version in kept["versions"].items()]
    revisions = Counter(cell.kept["revision"] for cell in cells if cell.kept.get("revision"))
    told = ", ".join(f"{revision} ({count} cells)" for revision, count in revisions.items())
    lines += ["", f"Revisions of Ottla that were measured: {told or 'none'}.", ""]
    for other in otherwise_measured(kept, cells):
        lines += [other, ""]
    for name, by_setting in kept.get("started_with", {}).items():
        alike: dict[str, list[str]] = {}
        for setting, started_with in by_setting.items():
            alike.setdefault(started_with, []).append(setting)
        for started_with, settings in alike.items():
            lines += [f"{name}, one node, in: {', '.join(settings)}", ""]
            lines += ["```text", started_with, "```", ""]
    return lines


def _again(place: str) -> list[str]:
    return [
        "## How to repeat it",
        "",
        "`make bench-peers` on a machine with Linux, Python's headers, gcc and a JDK (Apache Kafka's jars come from Maven "
        "Central); within two hours, and an ended run goes on where it was. `python -m bench.peers --list` names the "
        "cells, and patterns choose some: `python -m bench.peers 'saturation/*/1KB/*'`. What is measured and how is in "
        f"[bench/README.md](../bench/README.md), every round's figures are in [{COPY}]({place}/{COPY}), and what was done "
        "about cells that fell short, and what is left, in [performance.md](performance.md).",
    ]


def main() -> int:
    """Write the report of the results that there are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    if not options.results.exists():
        parser.error(f"{options.results} is not there")
    write(Results(options.results, anywhere=True), options.document)
    print(options.document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
