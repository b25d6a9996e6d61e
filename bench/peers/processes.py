"""What processes take: CPU seconds to the nanosecond, and memory as its proportional set size. Linux only."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

MB = 1 << 20


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of all threads that a process has or had (its CPU-time clock, ``man 3 clock_getcpuclockid``)."""
    return time.clock_gettime(((~pid) << 3) | 2)


def pss_mb(pid: int, part: str = "Pss") -> float:
    """The proportional set size, in MB of 2^20 bytes: a page that n processes share counts 1/n. Mapped files are in it.

    ``Pss_Anon`` is the part without files.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{part}:"):
            return int(line.split()[1]) * 1024 / MB
    raise RuntimeError(f"no {part}")


def children(pid: int) -> list[int]:
    """The process's children, and theirs."""
    found = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return [each for child in found for each in (child, *children(child))]


def family(pids: Iterable[int]) -> list[int]:
    """These processes with all their children."""
    return [each for pid in pids for each in (pid, *children(pid))]
