"""Figures beside those that were kept: what is worse, what is better, and whether they can be compared at all."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ottla.records.chosen_loops import choice

LIBRARIES = ("crc32c", "cramjam", "msgspec")
"""Compiled, and used by what is counted."""
THRESHOLDS = {"instructions": 0.03, "modules": 0.02, "bytes": 0.05}
"""By unit, what is worse (or better) by more is said to be. Counts repeat within one percent, memory within three."""


class Change(NamedTuple):
    """A figure, and the one that was kept."""

    name: str
    unit: str
    kept: float
    now: float

    @property
    def ratio(self) -> float:
        """Above 1 is worse."""
        return self.now / self.kept

    @property
    def worse(self) -> bool:
        """By more than the threshold."""
        return self.ratio > 1 + THRESHOLDS[self.unit]

    @property
    def better(self) -> bool:
        """By more than the threshold."""
        return self.ratio < 1 - THRESHOLDS[self.unit]

    def __str__(self) -> str:
        word = "  WORSE" if self.worse else "  better" if self.better else ""
        percent = (self.ratio - 1) * 100
        return f"{self.name:<52}{self.kept:>15,.0f}{self.now:>15,.0f}  {percent:+6.1f} %{word}"


def unit_of(name: str) -> str:
    """A figure's unit, by its name."""
    if "modules" in name:
        return "modules"
    return "bytes" if "memory" in name else "instructions"


def changes(kept: Mapping[str, float], now: Mapping[str, float]) -> list[Change]:
    """Of all that both have."""
    return [Change(name, unit_of(name), kept[name], now[name]) for name in kept if name in now]


def environment() -> dict[str, str]:
    """What decides how many instructions the same source takes."""
    found = {
        "python": sys.version,
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
    }
    found["record codec"] = "compiled" if choice.compiled else "interpreted"
    found["valgrind"] = _valgrind()
    return found | {name: metadata.version(name) for name in LIBRARIES}


def _valgrind() -> str:
    done = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def differences(kept: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is not as it was where the figures were kept."""
    return [
        f"{name}: {kept.get(name, 'none')} there, {now.get(name, 'none')} here"
        for name in sorted({*kept, *now})
        if kept.get(name) != now.get(name)
    ]


def read(path: Path) -> dict[str, Any]:
    """What was kept."""
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def keep(path: Path, figures: Mapping[str, float], of: str) -> None:
    """Keep figures for later runs."""
    kept = {
        "of": of,
        "environment": environment(),
        "figures": {name: round(value) for name, value in figures.items()},
    }
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
