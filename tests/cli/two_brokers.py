"""``ottla serve --brokers 2`` as a process of its own, for the tests of what it does and of what it leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import eventually

OTTLA_SERVE = [sys.executable, "-m", "ottla", "serve"]
READY = re.compile(
    r"ottla \S+ ready: 2 brokers, node (\d+) on (\S+), node (\d+) on (\S+), data in (.+) "
    r"\(start took \d+\.\d\d s\)\n"
)


class Running:
    """The command, ready."""

    def __init__(self, process: subprocess.Popen[str], data: Path, addresses: list[str]) -> None:
        self.process = process
        self.data = data
        self.addresses = addresses
        self.pids = [self.pid(1), self.pid(2)]

    def pid(self, number: int) -> int:
        """The process of a broker, as its data directory says; 0 where none runs."""
        return int((self.data / f"broker-{number}" / ".lock").read_text().partition(" ")[0] or 0)


@contextmanager
def serve_two(data: Path, *argv: str, **environment: str) -> Iterator[Running]:
    """Two brokers on free ports; killed in the end, where they were not stopped. What they log goes to ``errors`` beside."""
    with (data.parent / "errors").open("a") as errors:
        process = subprocess.Popen(
            [*OTTLA_SERVE, "--brokers=2", "--data", str(data), "--listen=127.0.0.1:0", *argv],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = READY.fullmatch(line)
        assert match is not None, line + (data.parent / "errors").read_text()
        running = Running(process, data, [match[2], match[4]])
        yield running
        _await_end(running.pids if process.poll() is not None else ())
    finally:
        process.kill()
        process.communicate()


def _await_end(pids: Sequence[int]) -> None:
    eventually(lambda: not any(map(lives, pids)), f"the end of {pids}")


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
