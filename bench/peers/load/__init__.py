"""The load generator: a program in C that replays prebuilt requests, compiled here and run as a process.

A job file, all numbers little endian and of 32 bits: how many frames there are; then each: the broker's port, its
size, its bytes as they go onto the wire (with the four of the length), how many places follow, and for each place
the partition and where in the frame its fetch offset stands.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOM = Path(__file__).resolve().parent
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
GRACE_S = 90.0
"""What a run may last beyond its seconds, to connect and to be answered."""


class Place(NamedTuple):
    """Where a Fetch holds the offset that it begins at."""

    partition: int
    position: int


class LoadFrame(NamedTuple):
    """A request for one broker, encoded, with its length."""

    port: int
    bytes: bytes
    places: Sequence[Place] = ()


class Outcome(NamedTuple):
    """What a run came to. Latencies are in microseconds, from when a request was to be sent.

    ``late_``: when it was sent indeed, in an open loop; that is the generator's own share of a latency. ``end_``: when
    a record came that was produced, where there are readers.
    """

    requests: int
    errors: int
    first_error: int
    seconds: float
    client_cpu_s: float
    sent_bytes: int
    received_bytes: int
    record_bytes: int
    records: int
    p50_us: float = 0.0
    p90_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0
    max_us: float = 0.0
    late_p50_us: float = 0.0
    late_p90_us: float = 0.0
    late_p99_us: float = 0.0
    late_p999_us: float = 0.0
    late_max_us: float = 0.0
    end_p50_us: float = 0.0
    end_p90_us: float = 0.0
    end_p99_us: float = 0.0
    end_p999_us: float = 0.0
    end_max_us: float = 0.0

    @property
    def client_busy(self) -> float:
        """Which part of a processor's time the generator itself took; near 1 it was the limit."""
        return self.client_cpu_s / self.seconds


def cache_home() -> Path:
    """Where what the benchmark fetches and builds lies, outside the tree."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ottla-bench"


@cache
def program() -> Path:
    """The compiled program; it lies in the cache under a name made of its sources. Raises ``OSError`` without gcc."""
    sources = sorted([*ROOM.glob("*.c"), *ROOM.glob("*.h")])
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
    home = cache_home()
    path = home / f"load-{digest[:16]}"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".load-", dir=home) as making:
            made = Path(making) / "load"
            units = [str(source) for source in sources if source.suffix == ".c"]
            subprocess.run(["gcc", *FLAGS, "-o", str(made), *units, "-lm"], check=True)
            made.rename(path)
    return path


def write_job(path: Path, frames: Sequence[LoadFrame]) -> Path:
    """Write a job file; returns its path."""
    with path.open("wb") as file:
        file.write(struct.pack("<I", len(frames)))
        for frame in frames:
            file.write(struct.pack("<II", frame.port, len(frame.bytes)))
            file.write(frame.bytes)
            file.write(struct.pack("<I", len(frame.places)))
            for place in frame.places:
                file.write(struct.pack("<iI", *place))
    return path


def replay(
    frames: Sequence[LoadFrame],
    kind: str,
    *,
    connections: int = 1,
    depth: int = 1,
    seconds: float = 1.0,
    requests: int = 0,
    rate: float = 0.0,
    idle: int = 0,
    readers: Sequence[LoadFrame] = (),
    directory: Path | None = None,
) -> Outcome:
    """Replay frames (``kind``: produce, fetch or other). The connection c of n sends the frames c, c + n, ... in turn,
    which are for the same broker.

    Closed loop, ``depth`` on their way on each connection; with a ``rate`` (all connections together, a second) an
    open loop. Ends after ``seconds``, or after ``requests`` where that is not 0. Raises ``RuntimeError`` where an
    answer was an error or made no sense, or where a connection would have frames for several brokers.

    ``readers`` are Fetches, each on a connection of its own, that follow what is produced: then the connection p
    writes to the partition p, which is empty before, one record a request.
    """
    with tempfile.TemporaryDirectory(prefix="ottla-load-", dir=directory) as scratch:
        job = write_job(Path(scratch) / "job", [*frames, *readers])
        arguments: Iterable[tuple[str, object]] = (
            ("job", job),
            ("kind", kind),
            ("connections", connections),
            ("depth", depth),
            ("seconds", seconds),
            ("requests", requests),
            ("rate", rate),
            ("idle", idle),
            ("readers", len(readers)),
        )
        command = [str(program()), *(f"{name}={value}" for name, value in arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + GRACE_S
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    outcome = Outcome(**json.loads(done.stdout))
    if outcome.errors:
        raise RuntimeError(f"{outcome.errors} answers with errors, first {outcome.first_error}")
    return outcome
