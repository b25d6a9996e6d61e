"""Python under valgrind's callgrind, and the counts that it leaves.

Works are done in a process that valgrind runs at some fiftieth of its speed while it counts, and at some fifth before and
after: counting is switched on around a work by a call into ``probe.c`` (valgrind's client requests).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("probe.c")
VALGRIND = ("valgrind", "--quiet", "--tool=callgrind", "--combine-dumps=no")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}
"""The same order of every set, from run to run."""
PARTS = 5
"""Each work is counted in so many parts, and the least counts: what is done now and then is in the others."""
_NAME = re.compile(r"^desc: Trigger: Client Request: (\S+)$", re.MULTILINE)
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def missing() -> list[str]:
    """What this machine lacks to count, as Debian's packages."""
    found = []
    if shutil.which("valgrind") is None or not Path("/usr/include/valgrind/callgrind.h").exists():
        found.append("valgrind")
    if shutil.which("gcc") is None:
        found.append("gcc")
    return found


@cache
def library() -> Path:
    """``probe.c``, compiled into the cache under a name made of its content."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ottla-bench"
    path = home / f"probe-{digest}.so"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as making:
            made = Path(making) / "probe.so"
            flags = ("-O2", "-shared", "-fPIC", "-Wall", "-Werror")
            subprocess.run(["gcc", *flags, "-o", str(made), str(SOURCE)], check=True)
            made.rename(path)
    return path


class Probe:
    """Switches counting on and off, in the process that valgrind runs."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)

    def start(self) -> None:
        """Count from here."""
        self._library.probe_start()

    def stop(self, name: str) -> None:
        """Count no more, and write down what it came to."""
        self._library.probe_stop(name.encode())


def command(counts: Path, arguments: Sequence[str], *, from_start: bool = False) -> list[str]:
    """Python with these arguments under valgrind, which writes its counts to files whose names begin so."""
    at_start = f"--instr-atstart={'yes' if from_start else 'no'}"
    return [*VALGRIND, at_start, f"--callgrind-out-file={counts}", sys.executable, *arguments]


def environment(sources: Path | None) -> Mapping[str, str]:
    """For such a process; ``sources`` are others than those that are installed."""
    found = {**os.environ, **ENVIRONMENT}
    root = str(Path(__file__).resolve().parents[2])
    found["PYTHONPATH"] = os.pathsep.join([*([str(sources)] if sources else []), root])
    return found


def compile_sources(sources: Path | None) -> None:
    """Write what is missing of their bytecode: a start that compiles every module first is nobody's start."""
    wanted = sources or Path(__file__).resolve().parents[2] / "src"
    command = [sys.executable, "-m", "compileall", "-q", str(wanted)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def counts_in(counts: Path) -> dict[str, int]:
    """What was counted, by the names of the works."""
    found = {}
    for path in counts.parent.glob(f"{counts.name}.*"):
        text = path.read_text()
        name, total = _NAME.search(text), _TOTALS.search(text)
        if name and total:
            found[name[1]] = int(total[1])
    return found


def total_in(counts: Path) -> int:
    """What a process came to that was counted from its start to its end."""
    total = _TOTALS.search(counts.read_text())
    if total is None:
        raise RuntimeError(f"{counts} has no total")
    return int(total[1])
