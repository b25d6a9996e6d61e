"""Which Ottla was measured and how: its revision, to be told, and digests of sources, to be compared."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"
MEASURING = (
    "bench/peers",
    "bench/broker_process.py",
    "bench/client_programs.py",
    "tests/support/apache_kafka.py",
    "tests/support/java.py",
    "tests/support/zookeeper.py",
    "tests/interop/java/src/KafkaNode.java",
    "tests/interop/java/src/MeasuredClient.java",
)
"""What gives work, starts who is given it, and takes the figures."""
TELLING = (
    "__main__.py",
    "goals.py",
    "notes.py",
    "plots.py",
    "report.py",
    "results.py",
    "revision.py",
    "settings.py",
    "tables.py",
    "versions.py",
)
"""What of ``bench/peers`` is only done with figures that are there."""
SUFFIXES = (".py", ".c", ".h", ".java")
DIGITS = 16


@cache
def source_digest(sources: Path = SOURCES) -> str:
    """The same for the same sources, wherever they lie and whatever their commit.

    What is compiled of them is not in it: it only runs where it was made of the very source beside it
    (``ottla.compiled_copies``), and which copy runs is told as a version.
    """
    return _digest(sources, sources.rglob("*.py"))


@cache
def measuring_digest(root: Path = ROOT) -> str:
    """The same for the same way to measure, however it is told."""
    found = []
    for name in MEASURING:
        place = root / name
        parts = place.rglob("*") if place.is_dir() else (place,)
        found += [path for path in parts if path.suffix in SUFFIXES and path.is_file()]
    room = root / "bench" / "peers"
    return _digest(root, (path for path in found if path not in {room / n for n in TELLING}))


def _digest(root: Path, paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        found.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        found.update(content)
    return found.hexdigest()[:DIGITS]


@cache
def revision() -> str:
    """The commit, with a word where the sources are no longer its own; empty outside a repository."""
    commit = _git("log", "-1", "--format=%h")
    changed = _git("status", "--porcelain", "--", str(SOURCES))
    return f"{commit} with changes" if commit and changed else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
