"""What a cell of the benchmark is: a piece of work, who does it, what is measured, and what is to come out.

A ``Setting`` makes contestants (brokers that run, clients, or products to be started) and has cells that use them.
Each round of a cell has every contestant do the same, one after the other, the next round beginning with another
one and the others in another order; the ratios are of one round's figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

ROUNDS = 5
FEWER_ROUNDS = 3
"""Of what takes long, is only shown, and has no goal."""
OURS = "Ottla"
APACHE_KAFKA = "Apache Kafka"
FLOOR = "the machine itself"
"""What a goal is against that is a part of the machine's own limit (``Cell.floor``)."""
CLIENT_BUSY = "client busy"
"""The metric that says which part of a processor the client took, or the busiest of its threads."""
CLIENT_BOUND_FROM = 0.9
MACHINE_BUSY = "machine busy"
"""The metric that says which part of all processors the client and the broker took together."""
MACHINE_BOUND_FROM = 0.9

Sample = dict[str, float]
"""One contestant's figures of one round, by metric: ``MB/s``, ``CPU s/GB``, ``PSS MB``, ``p99 us``, ..."""


@dataclass(frozen=True)
class Goal:
    """What the median ratio, ``ours`` to ``against``, is to be: ``at_least`` or ``at_most`` that.

    Ours is the cell's first contestant where it is not named. With ``when_client_bound`` that goal is enough where the client was the limit on both sides.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    against: str = APACHE_KAFKA
    when_client_bound: Goal | None = None
    ours: str | None = None

    def met_by(self, ratio: float) -> bool:
        """Whether a ratio is within the bound."""
        if self.at_least is not None and ratio < self.at_least:
            return False
        return self.at_most is None or ratio <= self.at_most

    def __str__(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " ".join(f"{sign} {bound:g} x" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Cell:
    """One row of a table."""

    name: str
    """Unique, ``work/what/...``: results are kept and found by it."""
    table: str
    """The title of the table that it is a row of."""
    title: str
    """The row's own."""
    durability: str
    """``os``, ``disk``, ``defaults``, or an empty string where nothing is written."""
    contestants: tuple[str, ...]
    """Names in the setting's order; the first is ours. One that the setting lacks is left out, and said to be."""
    measure: Callable[[Any], Sample]
    """Has one contestant do the work, once. Raises what goes wrong: the cell then fails, and the others go on."""
    goals: tuple[Goal, ...] = ()
    resumed: Callable[[Mapping[str, Sequence[Sample]]], None] | None = None
    """Told of the rounds that there are, by contestant, before more are added to them: what they began with goes on."""
    rounds: int = ROUNDS
    also: tuple[str, ...] = ()
    """Contestants that are ours, run in another way: goals are judged by each, and counted by the one that meets all."""
    floor: Callable[[], Sample] | None = None
    """What the machine itself takes for it, measured in every round."""
    floor_name: str = FLOOR
    """How tables name that: what of the machine, in which way."""
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    """For plots: the size of the records, the rate, how many partitions."""


@dataclass(frozen=True)
class Setting:
    """Cells that share their contestants."""

    name: str
    open: Callable[[], AbstractContextManager[Mapping[str, Any]]]
    """Makes the contestants by name, warmed up, and ends them."""
    cells: tuple[Cell, ...]
