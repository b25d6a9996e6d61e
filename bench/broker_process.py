"""What the benchmarks share: a broker as a process of its own, prebuilt requests, plain sockets, CPU times.

A broker's CPU seconds come from its ``/proc/PID/stat`` (user and system, all threads): they hold on a machine
that has other things to do, which times do not.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from ottla.errors import ErrorCode
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.registry import decode_response, encode_request
from ottla.wire.schema import Message

CONNECT_EVERY_S = 0.002
DEADLINE_S = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Figures = dict[str, list[float]]


class Frame:
    """A request, encoded."""

    def __init__(self, request: Message, version: int) -> None:
        chunks = encode_request(request, version, 1, "bench")
        body = b"".join(bytes(chunk) for chunk in chunks)
        self.bytes = len(body).to_bytes(4, "big") + body
        self.key: int = type(request).__api_key__
        self.version = version


class Connection:
    """A plain socket: frames out, answers in. It waits for a broker that does not listen yet."""

    def __init__(self, port: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(CONNECT_EVERY_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, frame: Frame) -> bytes:
        """The answer's bytes, without their length."""
        self.socket.sendall(frame.bytes)
        size = int.from_bytes(self._exactly(4), "big")
        return self._exactly(size)

    def answer(self, frame: Frame) -> Any:
        """The answer, decoded."""
        return decode_response(frame.key, frame.version, self.ask(frame))

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the broker hung up")
            data += part
        return data


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def broker(data: Path, port: int, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """``ottla serve`` as a process, stopped at the end."""
    command = [sys.executable, "-m", "ottla", "serve", "--data", str(data)]
    command += ["--listen", f"127.0.0.1:{port}", *(f"--set={setting}" for setting in settings)]
    # As an installed package has it: no start compiles its modules first.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    """VmRSS."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def cpu_seconds(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """User and system CPU seconds of all its threads so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS_PER_S, int(fields[12]) / TICKS_PER_S


def require_no_error(code: int) -> None:
    """What is measured has to have worked."""
    if code:
        raise RuntimeError(ErrorCode(code).name)


def create_topic_frame(topic: str, partitions: int = 1) -> Frame:
    """CreateTopics for one topic."""
    return Frame(
        CreateTopicsRequest(
            topics=[CreatableTopic(name=topic, num_partitions=partitions, replication_factor=1)],
            timeout_ms=30_000,
        ),
        7,
    )


def table(title: str, figures: Figures, unit: str, digits: int = 1) -> None:
    """One block: the median and the range of each."""
    print(f"{title:<66}{'median':>9}  range")
    for name, values in figures.items():
        least, most = min(values), max(values)
        print(
            f"  {name:<62}{median(values):>8.{digits}f} {unit}  "
            f"({least:.{digits}f} - {most:.{digits}f})"
        )
