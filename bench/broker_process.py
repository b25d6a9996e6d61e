"""What the benchmarks share: a broker as a process of its own, prebuilt requests, plain sockets, CPU times, memory.

A broker's CPU seconds come from its ``/proc/PID/stat`` (user and system, all threads): they hold on a machine
that has other things to do, which times do not.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ottla.errors import ErrorCode
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.registry import decode_response, encode_request
from ottla.wire.schema import Message

CONNECT_EVERY_S = 0.002
DEADLINE_S = 60.0
QUIET_S = 0.3
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
GB = 1e9
_WARM_STEP_BYTES = 64 << 20


class Frame:
    """A request, encoded."""

    def __init__(self, request: Message, version: int) -> None:
        chunks = encode_request(request, version, 1, "bench")
        body = b"".join(bytes(chunk) for chunk in chunks)
        self.bytes = len(body).to_bytes(4, "big") + body
        self.key: int = type(request).__api_key__
        self.version = version


class Connection:
    """A plain socket: frames out, answers in. It waits for a broker that does not listen yet, unless told not to."""

    def __init__(self, port: int, *, wait: bool = True) -> None:
        deadline = time.monotonic() + (DEADLINE_S if wait else 0)
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
        return self.receive()

    def receive(self) -> bytes:
        """The next answer's bytes, without their length."""
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


def await_quiet(process: subprocess.Popen[bytes]) -> None:
    """Return once a broker has nothing more to do: what it puts off until after its start is not a request's cost."""
    before, deadline = None, time.monotonic() + DEADLINE_S
    while (now := cpu_seconds(process)) != before:
        if time.monotonic() > deadline:
            raise RuntimeError("the broker does not come to rest")
        before = now
        time.sleep(QUIET_S)


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


def warm_memory(gigabytes: float) -> float:
    """Have the host of a virtual machine hand out that much memory before it is measured; returns what it was.

    A page that the host has not handed out costs its first writer several times what it costs later, since
    the host finds one only then. A child process touches as much anonymous memory as is going to be written,
    at most half of what is free, and gives it back to this system. That keeps it for some seconds only: with
    free page reporting (``/sys/module/page_reporting``) the host has it back soon. So call it right before.
    """
    wanted = min(int(gigabytes * GB), _free_bytes() // 2)
    program = (
        "import mmap, sys\n"
        "left, step = int(sys.argv[1]), int(sys.argv[2])\n"
        "held = []\n"
        "while left > 0:\n"
        "    part = mmap.mmap(-1, min(step, left))\n"
        "    for page in range(0, len(part), mmap.PAGESIZE):\n"
        "        part[page] = 1\n"
        "    held.append(part)\n"
        "    left -= step\n"
    )
    subprocess.run([sys.executable, "-c", program, str(wanted), str(_WARM_STEP_BYTES)], check=True)
    return wanted / GB


def _free_bytes() -> int:
    """What no process and no cache uses."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemFree:"):
            return int(line.split()[1]) * 1024
    return 0


def write_floor(directory: Path, megabytes: int = 250) -> float:
    """CPU seconds a GB of nothing but ``pwrite`` to a new file's page cache there, at this moment."""
    block = memoryview(bytes(1_000_000))
    with tempfile.TemporaryFile(dir=directory) as file:
        cpu = time.process_time()
        for index in range(megabytes):
            os.pwrite(file.fileno(), block, index * len(block))
        return (time.process_time() - cpu) / (megabytes * len(block) / GB)
