"""Reads ``tests/invariants.toml``, and writes what it says into ``docs/invariants.md``.

    python -m tools.invariants           write it
    python -m tools.invariants --check   say whether it is out of date, and fail if it is

The sentences of the page are written by hand. Below each, and in the table of traps, stands what holds it: that
comes from the map, which names tests and planted bugs. A test holds the page against the map.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
MAP = Path("tests/invariants.toml")
PAGE = Path("docs/invariants.md")
NUMBERS = range(1, 45)
PARTS = ("transactions", "security")
"""What is built later, and closes what is open."""

_SENTENCE = re.compile(r"(\d+)\. \S")
_EVIDENCE = "   - "
_TABLE = ("<!-- traps -->", "<!-- end of traps -->")


class Bug(NamedTuple):
    """A mistake that somebody could make: ``replace`` in the place of ``find``, in one file of ``src``.

    ``red``: the tests that have to fail then. ``raises``: how else than by an assertion they may.
    """

    what: str
    file: str
    find: str
    replace: str
    red: tuple[str, ...]
    raises: tuple[str, ...] = ()


class Invariant(NamedTuple):
    """One sentence: closed (``part`` is empty), or open until a later part is there."""

    number: int
    part: str
    kept: tuple[str, ...]
    tests: tuple[str, ...]
    bugs: tuple[Bug, ...]

    @property
    def is_closed(self) -> bool:
        """Whether it holds, and tests and planted bugs show that."""
        return not self.part


class Trap(NamedTuple):
    """A mistake that was made before: with its number in Apache Kafka's tracker."""

    area: str
    issue: str
    about: str
    part: str
    tests: tuple[str, ...]


class Map(NamedTuple):
    """All of ``tests/invariants.toml``."""

    invariants: tuple[Invariant, ...]
    traps: tuple[Trap, ...]

    @property
    def bugs(self) -> list[tuple[int, Bug]]:
        """Every planted bug with the number of its invariant."""
        return [(one.number, bug) for one in self.invariants for bug in one.bugs]

    @property
    def tests(self) -> set[str]:
        """Every test that is named anywhere."""
        named: set[str] = set()
        for one in self.invariants:
            named.update(one.tests, *(bug.red for bug in one.bugs))
        for trap in self.traps:
            named.update(trap.tests)
        return named


def read_map(root: Path = ROOT) -> Map:
    """The map. Raises ``ValueError`` and ``TypeError`` for what cannot be one."""
    with (root / MAP).open("rb") as file:
        content = tomllib.load(file)
    invariants = []
    for entry in content.pop("invariant"):
        bugs = [
            Bug(
                **{
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in bug.items()
                }
            )
            for bug in entry.pop("bug", ())
        ]
        fields = {name: tuple(entry.pop(name, ())) for name in ("kept", "tests")}
        one = Invariant(entry.pop("number"), entry.pop("open", ""), **fields, bugs=tuple(bugs))
        if entry:
            raise ValueError(f"invariant {one.number}: unknown {sorted(entry)}")
        invariants.append(one)
    traps = [
        Trap(
            trap["area"],
            trap["issue"],
            trap["about"],
            trap.get("open", ""),
            tuple(trap.get("tests", ())),
        )
        for trap in content.pop("trap")
    ]
    if content:
        raise ValueError(f"unknown {sorted(content)}")
    return Map(tuple(invariants), tuple(traps))


def sentences(page: str) -> dict[int, str]:
    """The sentences of the page by their numbers. Raises ``ValueError`` where a number comes twice."""
    found: dict[int, str] = {}
    for line in page.splitlines():
        if match := _SENTENCE.match(line):
            number = int(match[1])
            if number in found:
                raise ValueError(f"number {number} comes twice")
            found[number] = line[len(match[1]) + 2 :]
    return found


def written(page: str, read: Map) -> str:
    """The page with all that the map says put in anew."""
    by_number = {one.number: one for one in read.invariants}
    lines: list[str] = []
    in_table = False
    for line in page.splitlines():
        if line == _TABLE[1]:
            in_table = False
        if in_table or line.startswith(_EVIDENCE):
            continue
        lines.append(line)
        if line == _TABLE[0]:
            in_table = True
            lines += _traps(read.traps)
        match = _SENTENCE.match(line)
        if match and int(match[1]) in by_number:
            lines += [_EVIDENCE + each for each in _evidence(by_number[int(match[1])])]
    return "\n".join(lines) + "\n"


def _evidence(one: Invariant) -> Iterable[str]:
    if one.is_closed:
        yield "**holds**; kept in " + ", ".join(
            f"[`{path.removeprefix('src/ottla/')}`](../{path})" for path in one.kept
        )
    else:
        yield f"open: {one.part}" + ("; what is there of it:" if one.tests else "")
    if one.tests:
        yield "tests: " + _linked(one.tests)
    for bug in one.bugs:
        yield f"planted: {bug.what} → " + _linked(bug.red)


def _traps(traps: Iterable[Trap]) -> Iterable[str]:
    yield "| area | Apache Kafka's issue | the mistake | held by |"
    yield "|---|---|---|---|"
    for trap in traps:
        held = _linked(trap.tests) if trap.tests else f"open: {trap.part}"
        yield f"| {trap.area} | {trap.issue} | {trap.about} | {held} |"


def _linked(tests: Iterable[str]) -> str:
    """Test names, each linked to its file."""
    parts = []
    for test in tests:
        path, _, name = test.partition("::")
        name = name.partition("[")[0].removeprefix("test_").replace("_", " ")
        parts.append(f"[{name}](../{path})")
    return "; ".join(parts)


def main() -> int:
    """The program. Returns its exit code."""
    path = ROOT / PAGE
    before = path.read_text()
    after = written(before, read_map())
    if "--check" in sys.argv[1:]:
        if before != after:
            print(f"{PAGE} is out of date: python -m tools.invariants")
        return int(before != after)
    path.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
