"""While a peer means ill, the broker's memory stays within the bound of its settings and honest clients work on.

The bound: what the broker takes when it is idle, ``ROOM_KIB`` for what stands in no budget (code, connections,
allocators), and four times ``queued.max.request.bytes``, since decoded messages weigh more than their bytes;
for some abuses what another setting allows. Times are printed (``pytest -rP``), never asserted.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.crash.process import BrokerProcess
from tests.hostile.abuse import ABUSES, COMPACTED, RECOMPRESSED, TOPIC
from tests.support.memory import peak_kib
from tests.support.requests import create_topic, fetch, produce
from tests.support.wire import Wire, batch

BUDGET_BYTES = 32 << 20
ROOM_KIB = 48 << 10
HONEST = "honest"
EXCHANGES = int(os.environ.get("OTTLA_TEST_EXCHANGES", "150"))
ABUSE_S = float(os.environ.get("OTTLA_TEST_ABUSE_S", "1.5"))
PRELOADED_BYTES = 8 << 20
UNPACKED_KIB = 64 << 10
ALLOWED_KIB: dict[str, int] = {
    "groups": 64 << 10,  # group.members.max.bytes
    # Two batches are unpacked at once, to 64 MiB each, and made anew beside that.
    "keyless_bombs": 2 * UNPACKED_KIB,
    "keyed_bombs": 2 * UNPACKED_KIB,
    "rewritten_bombs": 4 * UNPACKED_KIB,
    "new_topics": 100 << 10,
}
SETTINGS: dict[str, object] = {
    "durability": "os",
    "socket.request.max.bytes": 8 << 20,
    "queued.max.request.bytes": BUDGET_BYTES,
    "max.connections": 1000,
    "group.members.max.bytes": 16 << 20,
    "offsets.topic.num.partitions": 2,
    "message.max.bytes": 2 << 20,
}


class Attacked(BrokerProcess):
    """A broker that answers HTTP, too; ``http`` says where."""

    http = ""


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Attacked]:
    """A broker with small budgets, topics to abuse and records in one of them."""
    http = f"127.0.0.1:{free_port()}"
    settings = {**SETTINGS, "http.listener": http}
    process = Attacked(tmp_path / "data", tmp_path / "output", settings)
    process.http = http
    process.start()
    try:
        process.wait_until_ready()
        with Wire(process.bootstrap) as wire:
            create_topic(wire, HONEST, retention_ms=-1)
            create_topic(wire, TOPIC, retention_ms=-1)
            create_topic(wire, COMPACTED, cleanup_policy="compact")
            create_topic(wire, RECOMPRESSED, compression_type="zstd")
            for _ in range(PRELOADED_BYTES >> 20):
                produce(wire, TOPIC, batch(bytes(1 << 20)))
        yield process
    finally:
        process.kill()


@contextmanager
def abused(name: str, bootstrap: str) -> Iterator[None]:
    """The abuse under way in a process of its own."""
    command = [sys.executable, "-m", "tests.hostile.abuse", name, bootstrap]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as abuser:
        try:
            assert abuser.stdout is not None
            assert abuser.stdout.readline() == b"under way\n"
            yield
            assert abuser.poll() is None, "the abuse has ended"
        finally:
            abuser.kill()


class Honest:
    """A client that writes records and reads them, and times that."""

    def __init__(self, bootstrap: str) -> None:
        self.wire = Wire(bootstrap)
        self.offset = 0

    def exchange(self, count: int, seconds: float = 0.0) -> str:
        """At least ``count`` records there and back, and for so long; p50, p99 and worst in words."""
        end = time.monotonic() + seconds
        took: list[float] = []
        while len(took) < count or time.monotonic() < end:
            begun = time.perf_counter()
            written = produce(self.wire, HONEST, batch(b"value"))
            assert written.error_code == 0, written
            read = fetch(self.wire, HONEST, written.base_offset)
            assert read.error_code == 0, read
            assert len(read.records) > 60
            took.append((time.perf_counter() - begun) * 1000)
        took.sort()
        return (
            f"p50 {took[len(took) // 2]:.2f}, p99 {took[len(took) * 99 // 100]:.2f}, "
            f"worst {took[-1]:.1f} ms of {len(took)}"
        )


@pytest.mark.parametrize("abuse", ABUSES)
def test_memory_stays_bounded_and_honest_clients_work_on(broker: Attacked, abuse: str) -> None:
    honest = Honest(broker.bootstrap)
    with honest.wire:
        alone = honest.exchange(EXCHANGES)
        before = peak_kib(broker.pid)
        with abused(abuse, broker.http if abuse == "http" else broker.bootstrap):
            beside = honest.exchange(EXCHANGES, ABUSE_S)
        after = honest.exchange(10)
        with Wire(broker.bootstrap) as newcomer:
            assert fetch(newcomer, HONEST).error_code == 0
    rise = peak_kib(broker.pid) - before
    bound = ROOM_KIB + 4 * (BUDGET_BYTES >> 10) + ALLOWED_KIB.get(abuse, 0)
    print(
        f"{abuse}: memory {before >> 10} MiB and {rise >> 10} more of {bound >> 10}; "
        f"alone {alone}; beside {beside}; after {after}"
    )
    printed = broker.printed().decode("utf-8", "replace")
    assert "Traceback" not in printed, printed[-3000:]
    assert rise < bound


@pytest.mark.parametrize("sent_bytes", [1, 70_000], ids=["a byte", "70 KB"])
def test_peers_that_announce_much_and_send_little_hold_up_nobody(
    tmp_path: Path, sent_bytes: int
) -> None:
    """Before, the budget was theirs until they were cut off: here they are all still there when it is over."""
    process = BrokerProcess(tmp_path / "data", tmp_path / "output", {"durability": "os"})
    process.start()
    with ExitStack() as stack:
        stack.callback(process.kill)
        process.wait_until_ready()
        wire = stack.enter_context(Wire(process.bootstrap))
        create_topic(wire, HONEST, retention_ms=-1)
        produce(wire, HONEST, batch(bytes(500_000)))
        before = peak_kib(process.pid)
        host, _, port = process.bootstrap.rpartition(":")
        hoarders = []
        for _ in range(200):
            hoarder = stack.enter_context(socket.create_connection((host, int(port))))
            hoarder.sendall(struct.pack(">i", 100_000_000) + bytes(sent_bytes))
            hoarders.append(hoarder)
        for number in range(1, 20):
            assert produce(wire, HONEST, batch(bytes(500_000))).base_offset == number
        for hoarder in hoarders:
            hoarder.setblocking(False)
            with pytest.raises(BlockingIOError):  # neither an answer nor a hang-up
                hoarder.recv(1)
        assert peak_kib(process.pid) - before < ROOM_KIB + 200 * (2 * sent_bytes >> 10)
