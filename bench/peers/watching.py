"""Which part of the processors a program and a broker took while both worked, thread by thread. Linux only."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

LOOK_EVERY_S = 0.1
FROM_PART, TO_PART = 0.4, 0.9
"""The part of a program's life that is looked at: it has started and warmed up, and is not about to end."""


class Look(NamedTuple):
    """CPU seconds so far, by thread."""

    at: float
    client: Mapping[int, float]
    broker: Mapping[int, float]


class Busy(NamedTuple):
    """Parts of one processor's time, between two looks."""

    client_thread: float
    """The busiest thread's."""
    client: float
    """All threads' together."""
    broker_thread: float
    broker: float

    def machine(self, cores: int) -> float:
        """Which part of all processors both took together; near 1 the machine was the limit, whoever of them it was."""
        return (self.client + self.broker) / cores


class Watch:
    """Looks at a client's process and a broker's processes from a thread of its own, until it is ended."""

    def __init__(self, client: int, broker: Sequence[int]) -> None:
        self._client = client
        self._broker = broker
        self._looks: list[Look] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._over.wait(LOOK_EVERY_S if self._looks else 0)
            look = Look(
                time.monotonic(),
                thread_seconds([self._client]),
                thread_seconds(self._broker),
            )
            if not look.client:
                return
            self._looks.append(look)

    def end(self, last_s: float | None = None) -> Busy:
        """What it saw: of a program's later part, or of its last seconds where those are known that count."""
        self._over.set()
        self._thread.join()
        return busy(self._looks, last_s)


def busy(looks: Sequence[Look], last_s: float | None = None) -> Busy:
    """Between a look after ``FROM_PART`` of the time, and one at ``TO_PART`` of it; or in its last seconds."""
    if len(looks) < 2:
        return Busy(0.0, 0.0, 0.0, 0.0)
    begin, length = looks[0].at, looks[-1].at - looks[0].at
    if last_s is None:
        chosen = [one for one in looks if FROM_PART <= (one.at - begin) / length <= TO_PART]
    else:
        chosen = [one for one in looks if one.at >= looks[-1].at - last_s]
    first, last = (chosen[0], chosen[-1]) if len(chosen) > 1 else (looks[0], looks[-1])
    span = last.at - first.at
    client = _shares(first.client, last.client, span)
    broker = _shares(first.broker, last.broker, span)
    return Busy(max(client, default=0.0), sum(client), max(broker, default=0.0), sum(broker))


def _shares(first: Mapping[int, float], last: Mapping[int, float], span: float) -> list[float]:
    return [(seconds - first.get(thread, 0.0)) / span for thread, seconds in last.items()]


def thread_seconds(pids: Sequence[int]) -> dict[int, float]:
    """CPU seconds of each thread that processes have now."""
    found = {}
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*"):
            try:
                found[int(path.name)] = int((path / "schedstat").read_text().split()[0]) / 1e9
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def cores() -> int:
    """Processors that client and broker share."""
    return len(os.sched_getaffinity(0))
