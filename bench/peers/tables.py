"""The tables of the report: a row for each figure of each cell, the medians of all beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.peers.cells import CLIENT_BOUND_FROM, CLIENT_BUSY, FLOOR, ROUNDS, Goal
from bench.peers.results import CellResult, Ratio

DURABILITY = {
    "os": "Page cache on both sides: what is acknowledged lies in the page cache of every replica.",
    "disk": (
        "Synced on both sides: what is acknowledged is on the disk of every replica (Kafka with `flush.messages=1`, "
        "a sync for each append: it has no group commit, and nobody runs it so)."
    ),
    "defaults": (
        "**Unequal**: each product's defaults. Ottla syncs what it acknowledges, Apache Kafka does not."
    ),
    "": "",
}
DIGITS = 3
HEAD = ("work", "figure")
TAIL = ("ratio, median (range)", "goal", "")


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
    found.pop(CLIENT_BUSY, None)
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
    """Ours to those that goals are against; without goals to the second contestant."""
    if goals:
        pairs = [(goal.ours or cell.ours, goal.against) for goal in goals]
    else:
        others = [n for n in cell.contestants if n != cell.ours and cell.values(n, metric)]
        pairs = [(cell.ours, other) for other in others[:1]]
    found = []
    several = len(pairs) > 1 or len(cell.samples) > 2
    for ours, against in pairs:
        ratio = cell.ratio(metric, against, ours)
        if ratio is None:
            continue
        who = f" to {against}" if several or against == FLOOR else ""
        who = f" {ours}{who}" if ours != cell.ours else who
        found.append(ratio_text(ratio) + who)
    return "<br>".join(found)


def _verdicts(cell: CellResult, goals: Sequence[Goal]) -> list[str]:
    found = []
    for goal in goals:
        verdict = cell.verdict(goal)
        if verdict is None:
            found.append("not measured")
        else:
            found.append("met" if verdict.met else "**missed**")
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
            rows.append(row(["", f"{metric}, {FLOOR}: {value}", *parts, "", "", "floor"]))
        else:
            others.append(f"{metric} {value}")
    if others:
        text = f"{FLOOR}: {', '.join(others)}"
        rows.append(row(["", text, *("" for _ in shown), "", "", "floor"]))
    return rows


def remarks_of(cell: CellResult) -> list[str]:
    """Whose client was the limit, who is missing, how many rounds there are where they are fewer, what failed."""
    found = []
    bound = [
        f"{name} ({cell.median(name, CLIENT_BUSY) or 0:.0%})"
        for name in cell.contestants
        if cell.client_bound(name)
    ]
    if bound:
        found.append(f"client-bound: {', '.join(bound)}")
    if cell.absent:
        found.append(f"not here: {', '.join(cell.absent)}")
    if 0 < cell.rounds < cell.wanted_rounds:
        found.append(f"{cell.rounds} of {cell.wanted_rounds} rounds")
    elif 0 < cell.rounds < ROUNDS:
        found.append(f"{cell.rounds} rounds")
    if cell.failed:
        found.append(f"**failed** then: {_one_line(cell.failed)}")
    return found


def notes_of(cells: Sequence[CellResult]) -> list[str]:
    """What is said beneath a table, each once, with its rows where it is not of all; and what is missing in it."""
    by_note: dict[str, list[str]] = {}
    missing = [cell.kept["title"] for cell in cells if not cell.samples and not cell.failed]
    cells = [cell for cell in cells if cell.samples or cell.failed]
    for cell in cells:
        for note in cell.kept.get("notes", ()):
            by_note.setdefault(note, []).append(cell.kept["title"])
    found = []
    for note, titles in by_note.items():
        found.append(f"- {note}" if len(titles) == len(cells) else f"- {'; '.join(titles)}: {note}")
    if any(cell.client_bound(name) for cell in cells for name in cell.samples):
        found.append(
            f"- Client-bound: the client took {CLIENT_BOUND_FROM:.0%} of a processor or more and was the limit; "
            "the broker's CPU time says more than the rate."
        )
    if missing:
        found.append(f"- Not measured: {'; '.join(missing)}.")
    return found


def _one_line(text: str) -> str:
    """The beginning of an error, fit for a table."""
    return " ".join(text.split())[:300]
