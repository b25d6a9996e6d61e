"""What else took processor time while a contestant had its turn: the host, the contestants that wait, other programs.

Only whole processes are looked at, by ``/proc/PID/stat``: those that this one has started do what is measured, and the
kernel's own threads do what somebody asked for. Linux only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

STOLEN = "the host took"
WAITING = "contestants that wait took"
OTHERS = "other programs took"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOLEN_AT = 8
"""Among the fields of ``/proc/stat``'s first line."""
PF_KTHREAD = 0x00200000

Beside = dict[str, float]
"""By word, parts of the time of all processors."""


class Process(NamedTuple):
    """What is looked at of one."""

    parent: int
    is_kernels: bool
    seconds: float
    """Its CPU seconds, and those of children that it has waited for."""


@contextmanager
def looked_at(contestants: Mapping[str, Any], whose_turn: str) -> Iterator[Beside]:
    """What is in it when the context has ended: parts of all processors' time meanwhile."""
    waiting = _waiting(contestants, whose_turn)
    found: Beside = {}
    before = time.monotonic(), stolen_seconds(), _seconds_of(waiting), processes()
    yield found
    possible = (time.monotonic() - before[0]) * (os.cpu_count() or 1)
    found[STOLEN] = (stolen_seconds() - before[1]) / possible
    found[WAITING] = (_seconds_of(waiting) - before[2]) / possible
    found[OTHERS] = others_seconds(before[3], processes(), os.getpid()) / possible


def _waiting(contestants: Mapping[str, Any], whose_turn: str) -> list[Any]:
    """The brokers that have nothing to do; two contestants may have the same."""
    busy = _broker_of(contestants[whose_turn])
    found = {id(one): one for one in map(_broker_of, contestants.values())}
    return [one for one in found.values() if one is not None and one is not busy]


def _broker_of(contestant: Any) -> Any:
    for candidate in (contestant, getattr(contestant, "running", None)):
        if callable(getattr(candidate, "cpu_seconds", None)):
            return candidate
    return None


def _seconds_of(brokers: list[Any]) -> float:
    found = 0.0
    for one in brokers:
        with suppress(OSError):  # it has ended: whoever measures it next will say so
            found += one.cpu_seconds()
    return found


def stolen_seconds() -> float:
    """So long the host gave a processor to others while something here wanted it."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()
    return int(fields[STOLEN_AT]) / TICKS_PER_S


def processes() -> dict[int, Process]:
    """All there are now."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(path.parent.name)] = Process(
            parent=int(fields[1]),
            is_kernels=bool(int(fields[6]) & PF_KTHREAD),
            seconds=sum(map(int, fields[11:15])) / TICKS_PER_S,
        )
    return found


def others_seconds(before: Mapping[int, Process], after: Mapping[int, Process], own: int) -> float:
    """CPU seconds of all processes between two looks but the kernel's, ``own``, and those that ``own`` has started.

    Who has ended meanwhile is in what its parent has waited for, with all that it ever took.
    """
    return max(0.0, _seconds_of_others(after, own) - _seconds_of_others(before, own))


def _seconds_of_others(all_of_them: Mapping[int, Process], own: int) -> float:
    return sum(
        process.seconds
        for pid, process in all_of_them.items()
        if not process.is_kernels and not _is_of(pid, own, all_of_them)
    )


def _is_of(pid: int, own: int, all_of_them: Mapping[int, Process]) -> bool:
    while pid in all_of_them and pid != own:
        pid = all_of_them[pid].parent
    return pid == own
