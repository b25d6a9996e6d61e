"""A copy of the project in which a bug can be planted, and tests be run.

Rules: the working tree is never touched. The tests run in a pytest process of their own that imports the
copy, and so do the processes that they start: ``PYTHONPATH`` comes before an editable installation. One copy
serves one process, one bug after the other; each file is put back as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tools.invariants import ROOT, Bug

RUN_TIMEOUT_S = 120
"""How long one run of a few quick tests may take on a machine that has other things to do."""

PLANTED_DEADLINE_S = 8
"""How long a test waits for a condition that a planted bug keeps from becoming so: sound code needs well under a second."""

ALL_TIMEOUT_S = 600
"""How long a run of the tests of all bugs may take there."""

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "node_modules", ".hypothesis")
_NOT_HANDED_ON = (
    "PYTEST_",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
    "COV_",
    "HYPOTHESIS_",
)


class Outcome(NamedTuple):
    """What became of one test: its worst phase, and what it raised."""

    phase: str
    outcome: str
    kinds: tuple[str, ...]
    text: str

    def is_red(self, raises: Iterable[str] = ()) -> bool:
        """Whether the test itself failed, by an assertion, ``pytest.fail``, or one of ``raises``."""
        expected = {"AssertionError", "Failed", *raises}
        return self.outcome == "failed" and self.phase == "call" and bool(expected & {*self.kinds})


class Run(NamedTuple):
    """What a pytest process told: the tests that there are, what could not be collected, the outcomes."""

    collected: list[str]
    broken: list[str]
    outcomes: dict[str, Outcome]

    def of(self, test: str) -> dict[str, Outcome]:
        """The outcomes of a test: of all its parameters, if none are named."""
        return {name: one for name, one in self.outcomes.items() if is_of(name, test)}


def is_of(name: str, test: str) -> bool:
    """Whether ``name``, as it was collected, is ``test`` or one of its parameters."""
    return name == test or name.startswith(f"{test}[")


class Copy:
    """A copy of ``src`` and ``tests`` at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("src", "tests", "tools"):
            shutil.copytree(ROOT / name, root / name, ignore=_LEFT_OUT)
        shutil.copy2(ROOT / "pyproject.toml", root)
        self._planted = 0

    @contextmanager
    def planted(self, bug: Bug) -> Iterator[None]:
        """Have the bug in the copy. Raises ``ValueError`` where its place is not to be found."""
        path = self.root / bug.file
        source = path.read_bytes()
        times = path.stat()
        path.write_text(with_bug(source.decode(), bug))
        self._planted += 1
        # Compiled files are told apart by size and whole seconds: no two versions may share both.
        changed_s = int(times.st_mtime) + self._planted
        os.utime(path, (changed_s, changed_s))
        try:
            yield
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def run(
        self,
        tests: Iterable[str],
        *options: str,
        timeout_s: float = RUN_TIMEOUT_S,
        deadline_s: float | None = None,
    ) -> Run:
        """Run tests in the copy, which wait for conditions for ``deadline_s`` if that is given.

        Raises ``AssertionError`` if they ran on anything else, or hang.
        """
        told = self.root / "outcomes.json"
        told.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "tests.meta.outcomes", "--hypothesis-profile=first failure"),
            *("-p", "ottla.testing.pytest_plugin", "-p", "_hypothesis_pytestplugin"),
            *(f"--basetemp={self.root / 'tmp'}", *options, *sorted(tests)),
        ]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_NOT_HANDED_ON)
        }
        environment |= {
            "PYTHONPATH": os.pathsep.join((str(self.root / "src"), str(self.root))),
            "OTTLA_OUTCOMES": str(told),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # each takes its time at every start
        }
        if deadline_s is not None:
            environment["OTTLA_TEST_DEADLINE_S"] = str(deadline_s)
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert told.exists(), f"pytest did not come to its end:\n{done.stdout[-3000:]}"
        found = json.loads(told.read_text())
        assert Path(found["package"]).is_relative_to(self.root), found["package"]
        outcomes = {
            name: Outcome(phase, outcome, tuple(kinds), text)
            for name, (phase, outcome, kinds, text) in found["outcomes"].items()
        }
        return Run(found["collected"], found["broken"], outcomes)


def with_bug(source: str, bug: Bug) -> str:
    """The source with the bug in it. Raises ``ValueError`` unless its place is there, and once."""
    count = source.count(bug.find)
    if count != 1:
        raise ValueError(
            f"{bug.file} has changed: the text that a bug is planted in ({bug.what}) is there {count} times, "
            f"and must be once. Choose its place anew in tests/invariants.toml:\n{bug.find}"
        )
    if bug.find == bug.replace:
        raise ValueError(f"{bug.what}: nothing is changed")
    planted = source.replace(bug.find, bug.replace)
    compile(planted, bug.file, "exec")
    return planted
