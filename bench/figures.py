"""A benchmark's figures: a block of them as text, and as JSON for who asks for it.

One line a figure: its name, the median, the range, and where there is a goal, the goal and whether the median
meets it. A goal that is missed fails nothing: it is said, and that is all. ``OTTLA_BENCH_JSON`` names a file
that every block is added to, a JSON object a line and figure; ``python -m bench --json PATH`` sets it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

JSON_LINES = "OTTLA_BENCH_JSON"
"""The environment's name for the file of figures."""

Figures = dict[str, list[float]]
"""What was measured under each name, a value a round."""


class Goal(NamedTuple):
    """What the median is to be: ``at_least`` or ``at_most`` that, in the block's unit."""

    at_least: float | None = None
    at_most: float | None = None

    def met_by(self, value: float) -> bool:
        """Whether ``value`` is within both bounds."""
        if self.at_least is not None and value < self.at_least:
            return False
        return self.at_most is None or value <= self.at_most

    def __str__(self) -> str:
        bounds = ((">=", self.at_least), ("<=", self.at_most))
        return " ".join(f"{sign} {bound:,g}" for sign, bound in bounds if bound is not None)


def table(
    title: str,
    figures: Figures,
    unit: str,
    digits: int = 1,
    goals: Mapping[str, Goal] | None = None,
) -> None:
    """Print one block; ``goals`` by the figures' names."""
    if not figures:
        return
    print(f"{title:<66}{'median':>12}  range; goal")
    for name, values in figures.items():
        middle = median(values)
        line = f"  {name:<62}{middle:>10,.{digits}f} {unit}"
        line += f"  ({min(values):,.{digits}f} - {max(values):,.{digits}f})"
        goal = (goals or {}).get(name)
        if goal is not None:
            line += f"; {goal}: {'met' if goal.met_by(middle) else 'MISSED'}"
        print(line, flush=True)
        _note(title, name, values, unit, goal)


def _note(title: str, name: str, values: list[float], unit: str, goal: Goal | None) -> None:
    path = os.environ.get(JSON_LINES)
    if not path:
        return
    figure = {
        "title": " ".join(title.split()),
        "name": " ".join(name.split()),
        "unit": unit,
        "median": median(values),
        "least": min(values),
        "most": max(values),
        "values": values,
        "goal": None if goal is None else str(goal),
        "met": None if goal is None else goal.met_by(median(values)),
    }
    with Path(path).open("a") as file:
        file.write(json.dumps(figure) + "\n")
