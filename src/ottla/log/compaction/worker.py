"""The worker process: takes jobs on its standard input, a line of JSON each, and answers on its output.

The rules kept here:

- It only reads the log's segments and writes ``.cleaned`` files; everything else is the broker's.
- It gives way: niced, throttled to ``log.cleaner.io.max.bytes.per.second``, and the first one that a system without
  memory should kill.
- It ends with its input: a broker that is killed leaves no process behind. It looks at that for every piece
  that it reads or writes, waiting or not.

Orders: a job; amid one, ``{"bytes_per_second": …}`` changes its rate.
Answers: ``{"group": …}`` for each cleaned segment, at last ``{"done": …}`` or ``{"failed": …}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from ottla import capabilities
from ottla.log.compaction.cleaning import Cleaning
from ottla.log.compaction.job import (
    RATE,
    UNCLEANABLE,
    CleanedGroup,
    CleaningDone,
    CleaningFailed,
    CleaningJob,
)
from ottla.log.disk import Disk

NICENESS = 10
_OOM_SCORE = "1000"
_READ_BYTES = 1 << 16
_WAIT_MS_MAX = 1000


class Orders:
    """The lines of a descriptor, and whether it has ended.

    A thread reads it: not every system can wait for a pipe and for a time at once.
    """

    def __init__(self, descriptor: int) -> None:
        self._buffer = b""
        self._read: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._take, args=(descriptor,), daemon=True).start()

    def _take(self, descriptor: int) -> None:
        while True:
            data = os.read(descriptor, _READ_BYTES)
            self._read.put(data)
            if not data:
                return

    def lines(self) -> Iterator[bytes]:
        """Each line when it is there; ends with the input."""
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                yield line
                continue
            data = self._read.get()
            if not data:
                return
            self._buffer += data

    def new_rate(self) -> float | None:
        """The last rate that was asked for amid a job; None if none was since the last call."""
        rate = None
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            said = json.loads(line) if newline else {}
            if RATE not in said:
                return rate
            self._buffer, rate = rest, said[RATE]

    def wait(self, timeout_ms: float) -> None:
        """Wait, and end the process if there is nobody left to work for."""
        try:
            data = self._read.get(timeout_ms > 0, max(timeout_ms, 0) / 1000)
        except Empty:
            return
        if not data:
            os._exit(0)
        self._buffer += data


class Throttle:
    """Lets bytes through at a rate on average, from the beginning of a job (or another rate) on."""

    def __init__(self, bytes_per_second: float, orders: Orders) -> None:
        self._rate = bytes_per_second
        self._orders = orders
        self._begun = time.monotonic()
        self._spent = 0

    def spend(self, size_bytes: int) -> None:
        """Wait until as many bytes may have been read or written since the job began."""
        self._spent += size_bytes
        due = self._begun + self._spent / self._rate
        while True:
            left_ms = (due - time.monotonic()) * 1000
            self._orders.wait(min(left_ms, _WAIT_MS_MAX))
            rate = self._orders.new_rate()
            if rate is not None:
                self._rate, self._begun, self._spent = rate, time.monotonic(), size_bytes
                due = self._begun + size_bytes / rate
            elif left_ms <= _WAIT_MS_MAX:
                return


def answers(job: CleaningJob, disk: Disk, throttle: Throttle) -> Iterator[dict[str, Any]]:
    """What to say to a job, bit by bit."""
    cleaning = Cleaning(job, disk, throttle.spend)
    try:
        for step in cleaning.run():
            if isinstance(step, CleanedGroup):
                yield {"group": step._asdict()}
            else:
                yield {"done": {"end": step.clean_end_offset, "counts": step.counts._asdict()}}
    except CleaningFailed as failed:
        yield {"failed": [failed.kind, failed.reason, failed.errno]}
    except Exception:  # whatever it is, the broker has the log that tells of it
        import traceback

        yield {"failed": [UNCLEANABLE, traceback.format_exc(), 0]}


def read_answer(line: bytes) -> CleanedGroup | CleaningDone:
    """What a line of the worker says. Raises ``CleaningFailed`` if it says that."""
    from ottla.log.compaction.job import CleaningCounts

    said = json.loads(line)
    if "group" in said:
        return CleanedGroup(**said["group"])
    if "failed" in said:
        raise CleaningFailed(*said["failed"])
    return CleaningDone(said["done"]["end"], CleaningCounts(**said["done"]["counts"]))


def give_way() -> None:
    """Let everybody else come first, and be the first to go where memory is short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the broker, too
    with suppress(OSError):
        capabilities.give_way(NICENESS)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write(_OOM_SCORE)


def main() -> None:
    """Work until the input ends."""
    give_way()
    orders = Orders(sys.stdin.fileno())
    disk = Disk()
    for line in orders.lines():
        said = json.loads(line)
        if RATE in said:
            continue  # it came too late for the job before, and the next one has it
        job = CleaningJob.from_json(said)
        throttle = Throttle(job.limits.bytes_per_second, orders)
        try:
            for answer in answers(job, disk, throttle):
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
        except BrokenPipeError:
            os._exit(0)


if __name__ == "__main__":
    main()
