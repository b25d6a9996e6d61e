"""A broker process that can be killed, and what its data directory holds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import ottla
from tests.support.waiting import wait_until

READY = re.compile(rb"ready: node \d+ on (?:\w+://)?[\d.]+:(\d+),")
DEADLINE_S = 60.0


class BrokerProcess:
    """``ottla serve`` over one data directory, started again and again on one port."""

    def __init__(
        self,
        data: Path,
        output: Path,
        settings: dict[str, object],
        environment: dict[str, str] | None = None,
        *,
        options: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        inside: Sequence[str] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        """``output``: the file that takes what the processes print; ``log.dirs`` may stand for ``data``, and
        ``listeners`` (the first one has ``host`` and ``port``) for these.

        ``options``: more of the command's; ``inside``: a command that runs it, ``ip netns exec …`` say;
        ``descriptors``: open files that it has, too.
        """
        self.data = data
        self.output = output
        self.host = host
        self.port = port
        self._options = options
        self._inside = inside
        self._descriptors = descriptors
        self._settings = settings
        self._environment = {**_environment(), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._printed_before = 0

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients; the same over all starts."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start it; ``wait_until_ready`` says when it takes requests."""
        self._printed_before = self.output.stat().st_size if self.output.exists() else 0
        settings = [f"--set={name}={value}" for name, value in self._settings.items()]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *self._inside,
                    *(sys.executable, "-m", "ottla", "serve"),
                    *(() if "log.dirs" in self._settings else ("--data", str(self.data))),
                    *(() if "listeners" in self._settings else ("--listen", self.bootstrap)),
                    *self._options,
                    *settings,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=self._descriptors,
            )

    def wait_until_ready(self) -> None:
        """Return once it says so; the first time it also says its port."""
        wait_until(lambda: READY.search(self.printed()) or self.exit_code() is not None, DEADLINE_S)
        found = READY.search(self.printed())
        assert found is not None, f"the broker ended: {self.printed().decode()}"
        self.port = int(found[1])

    def printed(self) -> bytes:
        """What it has printed since its last start."""
        with self.output.open("rb") as output:
            output.seek(self._printed_before)
            return output.read()

    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def pid(self) -> int:
        """The running process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def tracer_pid(self) -> int:
        """Who traces it (Linux); 0 if nobody does."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"TracerPid:\s*(\d+)", status)[0])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Does nothing where none runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """This process's, so that the broker's is this Ottla; no start compiles its modules anew."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ottla.__file__).parents[1])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def segment_count(data: Path, topic: str) -> int:
    """The segments of all partitions of a topic."""
    return sum(1 for path in data.glob(f"{topic}-*/*.log"))


def newest_segments(data: Path, topic: str) -> list[Path]:
    """The last segment of each partition of a topic."""
    newest: dict[Path, Path] = {}
    for path in sorted(data.glob(f"{topic}-*/*.log")):
        newest[path.parent] = path
    return list(newest.values())
