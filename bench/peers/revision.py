"""Which Ottla was measured: its revision, to be told, and a digest of its sources, to be compared."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"
DIGITS = 16


@cache
def source_digest(sources: Path = SOURCES) -> str:
    """The same for the same sources, wherever they lie and whatever their commit."""
    found = hashlib.sha256()
    for path in sorted(sources.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(sources)}\0{len(content)}\0".encode())
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
