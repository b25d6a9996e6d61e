"""What requests cost the broker: a broker under valgrind, and a client that sends the next when the last is answered.

The client waits for every answer (or for those of a burst), so the broker does the same from run to run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from bench.broker_process import Connection, await_quiet, free_port
from bench.quick import counting
from bench.quick.counting import PARTS
from bench.quick.served import NUMBER_BYTES
from bench.quick.works import WORKS, Client, Do

STOP_S = 60.0
LAST_WORDS_S = 5.0
"""One that fails may take so long to say why."""
START, MODULES = "start, until it listens", "start, modules imported"
MEMORY = "memory when idle, bytes"
IDLE_TIMES = 3


VALGRINDS_FAILURE = "valgrind: the 'impossible' happened"
"""What it says of a fault of its own."""


class ValgrindFailed(RuntimeError):
    """The tool, not the broker."""


class CountedBroker:
    """A broker under valgrind, and how it is told what to count."""

    def __init__(self, port: int, commands: int, confirmed: int) -> None:
        self.port = port
        self._commands = commands
        self._confirmed = confirmed

    def end_of_start(self) -> None:
        """Once it listens: what it came to so far was the start."""
        self._tell(b"-")

    def modules(self) -> int:
        """How many it has imported."""
        os.write(self._commands, b"m")
        return int.from_bytes(os.read(self._confirmed, NUMBER_BYTES), "big")

    def count(self, do: Do, times: int) -> None:
        """Do it, once uncounted, so that what it finds the first time is made."""
        do()
        for _ in range(PARTS):
            self._tell(b"+")
            for _ in range(times // PARTS):
                do()
            self._tell(b"-")

    def _tell(self, command: bytes) -> None:
        os.write(self._commands, command)
        if os.read(self._confirmed, 1) != command:
            raise RuntimeError("the broker has ended")


@contextmanager
def counted_broker(counts: Path, sources: Path | None, *settings: str) -> Iterator[CountedBroker]:
    """One, with its data in a new directory; stopped cleanly in the end, since valgrind writes then."""
    port = free_port()
    (told, commands), (confirmed, confirms) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="ottla-quick-") as directory:
        arguments = ["-m", "bench.quick.served", str(counting.library()), str(told), str(confirms)]
        arguments += ["--data", f"{directory}/data", "--listen", f"127.0.0.1:{port}"]
        arguments += [f"--set={setting}" for setting in settings]
        said = Path(directory) / "said"
        with said.open("wb") as file:
            process = subprocess.Popen(
                counting.command(counts, arguments),
                env=counting.environment(sources),
                pass_fds=(told, confirms),
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        os.close(told)
        os.close(confirms)
        try:
            yield CountedBroker(port, commands, confirmed)
            process.terminate()
            process.wait(STOP_S)
        except (OSError, RuntimeError) as error:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LAST_WORDS_S)
            process.terminate()
            ended = process.wait(STOP_S)
            words = said.read_text(errors="replace")[-2000:]
            kind = ValgrindFailed if VALGRINDS_FAILURE in words else RuntimeError
            raise kind(f"{error}; the broker ended with {ended} and said: {words}") from error
        finally:
            process.kill()
            process.wait()
            os.close(commands)
            os.close(confirmed)


def measure(pattern: str, sources: Path | None) -> dict[str, float]:
    """Instructions of the broker for its start, and for one of each work; and how many modules it imports.

    Once more where valgrind itself failed. Raises ``RuntimeError`` with what the broker said."""
    try:
        return _measure(pattern, sources)
    except ValgrindFailed as failed:
        print(failed, flush=True)
        return _measure(pattern, sources)


def _measure(pattern: str, sources: Path | None) -> dict[str, float]:
    chosen = [work for work in WORKS if fnmatch(work.name, pattern)]
    counting.compile_sources(sources)
    with tempfile.TemporaryDirectory(prefix="ottla-quick-counts-") as directory:
        counts = Path(directory) / "counts"
        with (
            counted_broker(counts, sources, "durability=os") as broker,
            closing(Client(broker.port)) as client,
        ):
            broker.end_of_start()
            modules = broker.modules()
            for work in chosen:
                broker.count(work.prepare(client), work.times)
        found = counting.counts_in(counts)
    figures: dict[str, float] = {START: found["work-0"], MODULES: modules}
    for index, work in enumerate(chosen):
        parts = [found[f"work-{1 + index * PARTS + part}"] for part in range(PARTS)]
        figures[work.name] = min(parts) / (work.times // PARTS)
    return figures


def idle_bytes(sources: Path | None) -> float:
    """Memory of its own that a broker has that does nothing, as it is without valgrind: the least of some."""
    return min(_idle_bytes(sources) for _ in range(IDLE_TIMES))


def _idle_bytes(sources: Path | None) -> float:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ottla-quick-idle-") as directory:
        command = [sys.executable, "-m", "ottla", "serve", "--data", f"{directory}/data"]
        process = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{port}"],
            env=counting.environment(sources),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            Connection(port).close()
            await_quiet(process)
            return _anonymous_bytes(process.pid)
        finally:
            process.kill()
            process.wait()


def _anonymous_bytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Pss_Anon")
