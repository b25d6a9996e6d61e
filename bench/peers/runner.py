"""Runs cells: which of them are missing, in alternating rounds, with what is left said, and nothing left behind."""

from __future__ import annotations

import fnmatch
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from typing import Any

from bench.peers import brokers
from bench.peers.beside import Beside, looked_at
from bench.peers.cells import Cell, Sample, Setting
from bench.peers.processes import children
from bench.peers.results import CellResult, Results

OPENING_GUESS_S = 70.0
"""What a setting takes until it is ready, before that is known: a warm-up of two brokers, mostly."""
ROUND_GUESS_S = 8.0


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


def order_of(names: Sequence[str], cell: str, number: int) -> list[str]:
    """Who has a turn when in a round: each begins as often, and nobody always follows the same one."""
    first = number % len(names)
    others = [*names[:first], *names[first + 1 :]]
    random.Random(f"{cell} {number}").shuffle(others)
    return [names[first], *others]


def run_round(
    cell: Cell,
    contestants: Mapping[str, Any],
    number: int,
    settle: Callable[[], None] = brokers.settle,
) -> tuple[dict[str, Sample], dict[str, Beside]]:
    """Every contestant's turn, with what else took processor time in it; what it leaves to the disk is its own affair."""
    names = [name for name in cell.contestants if name in contestants]
    samples, beside = {}, {}
    for name in order_of(names, cell.name, number):
        with looked_at(contestants, name) as beside[name]:
            samples[name] = cell.measure(contestants[name])
        settle()
    return samples, beside


def told(result: CellResult) -> str:
    """What came of a cell's goals, in a line."""
    parts = []
    for way, goal in product(result.ways, result.goals):
        verdict = result.verdict(goal, way)
        if verdict is not None:
            ratio = verdict.ratio
            who = f"{way}: " if way != result.ours else ""
            word = "met" if verdict.met else "MISSED"
            bound = ", client-bound" if verdict.client_bound else ""
            parts.append(
                f"{who}{goal.metric} {ratio.median:.2f} x ({ratio.least:.2f}-{ratio.most:.2f}), {goal}: {word}{bound}"
            )
    return "; ".join(parts) or "measured"


class Run:
    """One run of the benchmark, until it is done or its time is over."""

    def __init__(
        self,
        picked: Sequence[tuple[Setting, Sequence[Cell]]],
        results: Results,
        *,
        rounds: int,
        budget_s: float,
        settle: Callable[[], None] = brokers.settle,
    ) -> None:
        """``rounds`` at most in each cell; no cell begins that would not be done within ``budget_s``.

        ``settle`` is called after each turn, before the next contestant's.
        """
        self.picked = picked
        self.results = results
        self.failed: list[str] = []
        self._rounds = rounds
        self._end = time.monotonic() + budget_s
        self._settle = settle

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those that lack rounds; first those that goals hang on, should the time be over."""
        return sorted((cell for cell in cells if self._left(cell)), key=lambda cell: not cell.goals)

    def _left(self, cell: Cell) -> int:
        return max(0, min(cell.rounds, self._rounds) - self.results.cell(cell).rounds)

    def remaining_s(self, *, within: Setting | None = None) -> float:
        """About how long the missing rounds take. ``within`` is the setting that is open already."""
        seconds = 0.0
        for setting, cells in self.picked:
            missing = [c for c in self.missing(cells) if c.name not in self.failed]
            if missing and setting is not within:
                seconds += self._ready_s(setting)
            seconds += sum(self._cell_s(cell, cells) for cell in missing)
        return seconds

    def _ready_s(self, setting: Setting) -> float:
        """About how long a setting takes to open."""
        kept = self.results.kept["settings"].get(setting.name, {})
        ready: float = kept.get("ready_s", OPENING_GUESS_S)
        return ready

    def _cell_s(self, cell: Cell, alike: Sequence[Cell]) -> float:
        """About how long a cell's missing rounds take: as it did before, or as those of its setting do."""
        known = self.results.cell(cell).round_s
        if known is None:
            others = [self.results.cell(each).round_s for each in alike]
            found = [each for each in others if each is not None]
            known = sum(found) / len(found) if found else ROUND_GUESS_S
        return known * self._left(cell)

    def all(self) -> None:
        """Run what is missing."""
        for setting, cells in self.picked:
            while missing := [c for c in self.missing(cells) if c.name not in self.failed]:
                if self._too_late(missing[0], cells, self._ready_s(setting)):
                    break
                before = len(missing), len(self.failed)
                try:
                    self._open(setting, cells, missing)
                except Exception as error:
                    self._fail(missing, error)
                left = [c for c in self.missing(cells) if c.name not in self.failed]
                if (len(left), len(self.failed)) == before:
                    break

    def _too_late(self, cell: Cell, alike: Sequence[Cell], ready_s: float = 0.0) -> bool:
        return time.monotonic() + ready_s + self._cell_s(cell, alike) > self._end

    def _open(self, setting: Setting, cells: Sequence[Cell], missing: Sequence[Cell]) -> None:
        """Measure the missing cells; returns sooner where a contestant has ended or the time is over."""
        started = time.monotonic()
        print(f"== {setting.name}: {self._progress()}", flush=True)
        with setting.open() as contestants:
            ready = time.monotonic() - started
            self.results.kept["settings"].setdefault(setting.name, {})["ready_s"] = round(ready, 1)
            self._note(setting, contestants)
            print(f"  ready after {ready:.0f} s", flush=True)
            for cell in missing:
                if self._too_late(cell, cells):
                    break
                try:
                    self._measure(cell, contestants)
                except Exception as error:
                    self._fail([cell], error)
                    if any(_has_ended(each) for each in contestants.values()):
                        break  # the others shall have it alive
                else:
                    line = told(self.results.cell(cell))
                    print(f"  {cell.name}: {line} [{self._progress(setting)}]", flush=True)
        print(f"== {setting.name}: {time.monotonic() - started:.0f} s", flush=True)

    def _measure(self, cell: Cell, contestants: Mapping[str, Any]) -> None:
        """The rounds that are missing."""
        present = {name for name in cell.contestants if name in contestants}
        if set(self.results.cell(cell).samples) - present or (
            self.results.cell(cell).rounds and present - set(self.results.cell(cell).samples)
        ):
            self.results.forget(cell)  # a ratio is of one round: nobody joins or leaves amid a cell
        if self.results.cell(cell).rounds and cell.resumed is not None:
            cell.resumed(self.results.cell(cell).samples)
        for number in range(self.results.cell(cell).rounds, min(cell.rounds, self._rounds)):
            started = time.monotonic()
            floor = None if cell.floor is None else cell.floor()
            samples, beside = run_round(cell, contestants, number, self._settle)
            self.results.add(cell, samples, floor, time.monotonic() - started, beside)

    def _fail(self, cells: Sequence[Cell], error: Exception) -> None:
        for cell in cells:
            self.failed.append(cell.name)
            self.results.failed(cell, f"{type(error).__name__}: {error}")
            print(f"  {cell.name}: FAILED", flush=True)
        traceback.print_exception(error)

    def _progress(self, within: Setting | None = None) -> str:
        cells = [cell for _, cells in self.picked for cell in cells]
        done = len(cells) - len(self.missing(cells))
        return f"{done} of {len(cells)} cells, about {self.remaining_s(within=within) / 60:.0f} min left"

    def _note(self, setting: Setting, contestants: Mapping[str, Any]) -> None:
        """With what the brokers of a setting were started."""
        for name, contestant in contestants.items():
            started_with = getattr(contestant, "started_with", None)
            if started_with:
                told_of = self.results.kept["started_with"].setdefault(name, {})
                told_of[setting.name] = started_with()


def _has_ended(contestant: Any) -> bool:
    return any(process.poll() is not None for process in getattr(contestant, "processes", ()))


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """As long as the context: SIGINT and SIGTERM are a ``KeyboardInterrupt``, once; in the end no child is left, and
    no temporary file.
    """

    def interrupt(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    handlers = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    scratch = tempfile.mkdtemp(prefix="ottla-peers-")
    tempfile.tempdir = os.environ["TMPDIR"] = scratch
    try:
        yield
    finally:
        end_children()
        tempfile.tempdir = before[0]
        if before[1] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[1]
        shutil.rmtree(scratch, ignore_errors=True)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def end_children() -> None:
    """End whatever processes this one has started that still run."""
    for pid in children(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # somebody else's child
            os.waitpid(pid, 0)
