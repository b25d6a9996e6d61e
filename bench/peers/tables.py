"""The tables of the report: a row for each figure of each cell, the medians of all beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch

from bench.peers.cells import (
    APACHE_KAFKA,
    CLIENT_BOUND_FROM,
    CLIENT_BUSY,
    FLOOR,
    MACHINE_BOUND_FROM,
    MACHINE_BUSY,
    ROUNDS,
    Goal,
)
from bench.peers.notes import notes_for
from bench.peers.results import CellResult, Ratio, Verdict

DURABILITY = {
    "os": "Page cache on both sides: what is acknowledged lies in the page cache of every replica.",
    "disk": (
        "Synced on both sides: what is acknowledged is on the disk of every replica. Apache Kafka does that with "
        "`flush.messages=1`: for each append it syncs the log, both its indexes and the index of transactions, and has no "
        "group commit. Its documentation advises against it (replicas are its way to be durable); it is what it has."
    ),
    "defaults": (
        "**Unequal**: each product's defaults. Ottla syncs what it acknowledges, Apache Kafka does not."
    ),
    "": "",
}
DIGITS = 3
HEAD = ("work", "figure")
TAIL = ("ratio, median (range)", "goal", "")
NOT_COMPARED = (
    "late *",
    "rate",
    "*busiest thread",
    "*processors",
    "MB/s in",
    "MB/s out",
    "samples",
)
"""Figures whose ratio says nothing: what was set, and what is the client's own."""
LATE_FROM = 0.5
"""Where the generator was late by so much of a latency, that is said."""


def number(value: float) -> str:
    """Three digits that count, with the thousands apart."""
    if value == 0:
        return "0"
    decimals = max(0, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}"


def ratio_text(ratio: Ratio) -> str:
    """The median with its range."""
    return f"{ratio.median:.2f} x ({ratio.least:.2f} - {ratio.most:.2f})"


def goal_text(goal: Goal) -> str:
    """What is wanted."""
    text = str(goal)
    if goal.when_client_bound is not None:
        bound = goal.when_client_bound
        text += f", or client-bound with {bound.metric} {bound!s}"
    return text


def row(parts: Iterable[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(part.replace("|", "\\|") for part in parts) + " |"


def metrics_of(cell: CellResult) -> list[str]:
    """What is shown of it: what has goals first. Nothing where nothing was measured."""
    if not cell.rounds:
        return []
    found = dict.fromkeys(goal.metric for goal in cell.goals)
    for samples in cell.samples.values():
        for sample in samples:
            found |= dict.fromkeys(sample)
    for metric in (CLIENT_BUSY, MACHINE_BUSY):
        found.pop(metric, None)
    return list(found)


def table(cells: Sequence[CellResult]) -> list[str]:
    """The lines of one table: cells of the same kind of durability."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.contestants))
    shown = [name for name in names if any(cell.samples.get(name) for cell in cells)]
    head = (*HEAD, *shown, *TAIL)
    align = ("---", "---", *("---:" for _ in shown), "---", "---", "---")
    lines = [row(head), "|" + "|".join(align) + "|"]
    for cell in cells:
        if cell.samples or cell.failed:
            lines += _cell_rows(cell, shown)
    return lines if len(lines) > 2 else []


def _cell_rows(cell: CellResult, shown: Sequence[str]) -> list[str]:
    """A row for each metric, one for each floor, and one that says what is wrong."""
    title = cell.kept["title"]
    remarks = remarks_of(cell)
    lines = []
    for metric in metrics_of(cell):
        medians = [cell.median(name, metric) for name in shown]
        goals = [goal for goal in cell.goals if goal.metric == metric]
        lines.append(
            row(
                [
                    title,
                    metric,
                    *("" if value is None else number(value) for value in medians),
                    _ratios(cell, metric, goals),
                    "<br>".join(goal_text(goal) for goal in goals),
                    "<br>".join([*_verdicts(cell, goals), *remarks]),
                ]
            )
        )
        title, remarks = "", []
    lines += _floor_rows(cell, shown)
    if not lines:
        why = f"**failed**: {_one_line(cell.failed)}"
        lines.append(row([title, "", *("" for _ in shown), "", "", why]))
    return lines


def _ratios(cell: CellResult, metric: str, goals: Sequence[Goal]) -> str:
    """Ours, in each way to run it, to those that goals are against; without goals to whom the cell is about."""
    if goals:
        pairs = [(way, goal.against) for goal in goals for way in _ways(cell, goal)]
    else:
        pairs = [(way, other) for other in _other(cell, metric) for way in cell.ways]
    found = []
    several = len(pairs) > 1 or len(cell.samples) > 2
    for ours, against in pairs:
        ratio = cell.ratio(metric, against, ours)
        if ratio is None:
            continue
        to = cell.floor_name if against == FLOOR else against
        who = f" to {to}" if several or against == FLOOR else ""
        who = f" {ours}{who}" if ours != cell.ours else who
        found.append(ratio_text(ratio) + who)
    return "<br>".join(found)


def _ways(cell: CellResult, goal: Goal) -> list[str]:
    """Whose figures a goal is asked of."""
    return [goal.ours] if goal.ours is not None else cell.ways


def _other(cell: CellResult, metric: str) -> list[str]:
    """To whom a figure without a goal is compared: who the cell's goals are against, else Apache Kafka, else the next."""
    if any(fnmatch(metric, pattern) for pattern in NOT_COMPARED):
        return []
    wanted = [*(goal.against for goal in cell.goals), APACHE_KAFKA, *cell.contestants]
    return [n for n in wanted if n not in (FLOOR, *cell.ways) and cell.values(n, metric)][:1]


def verdict_word(verdict: Verdict | None) -> str:
    """What became of a goal; with a word where some rounds say otherwise than their median."""
    if verdict is None:
        return "not measured"
    return ("met" if verdict.met else "**missed**") + (
        "" if verdict.sure else ", not in all rounds"
    )


def _verdicts(cell: CellResult, goals: Sequence[Goal]) -> list[str]:
    found = []
    for goal in goals:
        for way in _ways(cell, goal):
            who = f" ({way})" if way != cell.ours and goal.ours is None else ""
            found.append(verdict_word(cell.verdict(goal, way)) + who)
    return found


def _floor_rows(cell: CellResult, shown: Sequence[str]) -> list[str]:
    """What the machine itself takes: a row for each figure that a contestant has, too, and one for all others."""
    rows, others = [], []
    for metric in dict.fromkeys(name for each in cell.kept.get("floors", ()) for name in each):
        value = number(cell.floor(metric) or 0)
        parts = []
        for name in shown:
            ratio = cell.ratio(metric, FLOOR, name)
            parts.append("" if ratio is None else f"{ratio.median:.2f} x of it")
        if any(parts):
            rows.append(row(["", f"{metric}, {cell.floor_name}: {value}", *parts, "", "", "floor"]))
        else:
            others.append(f"{metric} {value}")
    if others:
        text = f"{cell.floor_name}: {', '.join(others)}"
        rows.append(row(["", text, *("" for _ in shown), "", "", "floor"]))
    return rows


def remarks_of(cell: CellResult) -> list[str]:
    """By whom the goals are counted, what the limit was, whose p99 is the generator's, who is missing, how many rounds
    there are where they are fewer, what else ran, what failed.
    """
    found = []
    if cell.way_that_counts != cell.ours:
        found.append(f"goals counted by: {cell.way_that_counts}")
    for word, metric, is_bound in (
        ("client-bound", CLIENT_BUSY, cell.client_bound),
        ("machine-bound", MACHINE_BUSY, cell.machine_bound),
    ):
        bound = [
            f"{name} ({cell.median(name, metric) or 0:.0%})"
            for name in cell.contestants
            if is_bound(name)
        ]
        if bound:
            found.append(f"{word}: {', '.join(bound)}")
    late = [name for name in cell.contestants if _generator_was_late(cell, name)]
    if late:
        found.append(f"p99 is the generator's by half or more: {', '.join(late)}")
    found += [f"slower than {name}: {FLOOR}" for name in cell.above_floor]
    found += cell.disturbed
    if cell.absent:
        found.append(f"not here: {', '.join(cell.absent)}")
    if 0 < cell.rounds < cell.wanted_rounds:
        found.append(f"{cell.rounds} of {cell.wanted_rounds} rounds")
    elif 0 < cell.rounds < ROUNDS:
        found.append(f"{cell.rounds} rounds")
    if cell.failed:
        found.append(f"**failed** then: {_one_line(cell.failed)}")
    return found


def _generator_was_late(cell: CellResult, name: str) -> bool:
    late, whole = cell.median(name, "late p99 us"), cell.median(name, "p99 us")
    return late is not None and whole is not None and late >= LATE_FROM * whole


def notes_of(cells: Sequence[CellResult]) -> list[str]:
    """What is said beneath a table, each once, with its rows where it is not of all; and what is missing in it."""
    by_note: dict[str, list[str]] = {}
    missing = [cell.kept["title"] for cell in cells if not cell.samples and not cell.failed]
    cells = [cell for cell in cells if cell.samples or cell.failed]
    for cell in cells:
        for note in (*cell.kept.get("notes", ()), *notes_for(cell.name)):
            by_note.setdefault(note, []).append(cell.kept["title"])
    found = []
    for note, titles in by_note.items():
        found.append(f"- {note}" if len(titles) == len(cells) else f"- {'; '.join(titles)}: {note}")
    if any(cell.client_bound(name) for cell in cells for name in cell.samples):
        found.append(
            f"- Client-bound: the client took {CLIENT_BOUND_FROM:.0%} of a processor or more and was the limit; "
            "the broker's CPU time says more than the rate."
        )
    if any(cell.machine_bound(name) for cell in cells for name in cell.samples):
        found.append(
            f"- Machine-bound: client and broker together took {MACHINE_BOUND_FROM:.0%} of all processors or more; what "
            "one of them leaves, the other takes."
        )
    if any(cell.above_floor for cell in cells):
        found.append(
            f"- Where a contestant is faster than {FLOOR}, that floor is none, and no goal is judged by it."
        )
    if missing:
        found.append(f"- Not measured: {'; '.join(missing)}.")
    return found


def _one_line(text: str) -> str:
    """The beginning of an error, fit for a table."""
    return " ".join(text.split())[:300]
