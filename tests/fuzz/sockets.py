"""A live broker: frames over real sockets, several connections at once, honest traffic beside them.

The broker is a process of its own, and its code is not instrumented: the corpus of ``messages`` guides instead. After each burst an honest client writes a record and reads it, and the broker's peak
memory is held against the bound. An input is a row of frames: flags, a length of two bytes, the bytes. The
flags say on which connection, whether the length on the wire is a lie, and whether to hang up behind it.
"""

from __future__ import annotations

import atexit
import functools
import os
import random
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.crash.process import BrokerProcess
from tests.support.memory import peak_kib
from tests.support.requests import create_topic, fetch, produce
from tests.support.samples import whole_requests
from tests.support.wire import Wire, batch

REQUEST_BYTES_MAX = 1 << 20
BUDGET_BYTES = 16 << 20
CONNECTIONS = 4
HONEST = "honest-6f1c"
MEMORY_KIB_MAX = (64 << 10) + 4 * (BUDGET_BYTES >> 10)
"""Over what the broker takes before the first burst: decoded messages weigh more than their bytes."""
SETTINGS: dict[str, object] = {
    "durability": "os",
    "socket.request.max.bytes": REQUEST_BYTES_MAX,
    "queued.max.request.bytes": BUDGET_BYTES,
    "log.retention.bytes": 4 << 20,
    "log.segment.bytes": 1 << 20,
    "offsets.topic.num.partitions": 2,
}
HANG_UP = 0x04
LIE = 0x08


class Ground:
    """The broker, and the honest client's connection."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="ottla-fuzz-")
        place = Path(self.directory.name)
        self.process = BrokerProcess(place / "data", place / "output", SETTINGS)
        self.process.start()
        self.process.wait_until_ready()
        atexit.register(self.end)
        self.honest = Wire(self.process.bootstrap)
        create_topic(self.honest, HONEST)
        produce(self.honest, HONEST, batch(b"first"))
        self.idle_kib = peak_kib(self.process.pid)
        self.peak_kib = self.idle_kib
        self.seconds: list[float] = []

    def end(self) -> None:
        """Stop it."""
        self.process.kill()
        self.directory.cleanup()

    def check(self) -> None:
        """Write and read a record; hold the memory against the bound."""
        begun = time.perf_counter()
        written = produce(self.honest, HONEST, batch(b"value"))
        assert written.error_code == 0, written
        read = fetch(self.honest, HONEST, written.base_offset)
        assert read.error_code == 0, read
        assert len(read.records) > 60, read
        self.seconds.append(time.perf_counter() - begun)
        del self.seconds[:-200_000]
        self.peak_kib = peak_kib(self.process.pid)
        rise = self.peak_kib - self.idle_kib
        assert rise < MEMORY_KIB_MAX, f"{rise} KiB over {self.idle_kib}"


_grounds: list[Ground] = []


@functools.cache
def frames() -> list[bytes]:
    """Every request, and what ``messages`` has found, where it has run (``FUZZ_MESSAGES``: its corpus)."""
    found = os.environ.get("FUZZ_MESSAGES")
    contents = [path.read_bytes() for path in sorted(Path(found).iterdir())] if found else []
    return whole_requests(9) + [
        content[1:] for content in contents if content[:1] == b"\0" and len(content) < 4000
    ]


def seeds() -> Iterator[bytes]:
    """Every request alone, and some together."""
    whole = whole_requests(9)
    for frame in whole:
        yield _row((0, frame))
    for start in range(0, len(whole), 7):
        yield _row(*((n % CONNECTIONS, frame) for n, frame in enumerate(whole[start : start + 7])))
    yield _row((LIE, b"\x7f\xff\xff\xff"), (1, whole[0]), (1 | HANG_UP, whole[3]))


def mutated(data: bytes, size_max: int, seed: int) -> bytes:
    """A few requests, some bent by libFuzzer: no coverage of the broker tells which inputs to go on with."""
    import atheris  # type: ignore[import-not-found, unused-ignore]

    chance = random.Random(seed)
    chosen = []
    for _ in range(chance.randint(1, 5)):
        frame = chance.choice(frames())
        if chance.random() < 0.7:
            frame = bytes(atheris.Mutate(frame, len(frame) + 64))
        flags = chance.choice((0, 0, 1, 2, 3, HANG_UP, LIE))
        chosen.append((flags, frame[:0xFFFF]))
    return _row(*chosen)[:size_max]


MUTATOR = {"custom_mutator": mutated}


def _row(*frames: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack(">BH", flags, len(frame)) + frame for flags, frame in frames)


def one(data: bytes) -> None:
    """One burst and one honest exchange."""
    if not _grounds:
        _grounds.append(Ground())
    ground = _grounds[0]
    try:
        _burst(ground, data)
        ground.check()
    except (AssertionError, OSError) as error:
        code = ground.process.exit_code()
        printed = ground.process.printed()[-4000:].decode("utf-8", "replace")
        ground.end()
        _grounds.clear()
        raise AssertionError(f"{error!r}; exit code {code}: {printed}") from error


def _burst(ground: Ground, data: bytes) -> None:
    peers: dict[int, socket.socket] = {}
    at = 0
    try:
        while at + 3 <= len(data):
            flags, size = struct.unpack_from(">BH", data, at)
            frame = data[at + 3 : at + 3 + size]
            at += 3 + size
            number = flags % CONNECTIONS
            peer = peers.get(number)
            if peer is None:
                peer = peers[number] = _connect(ground.process.port)
            try:
                peer.send(frame if flags & LIE else struct.pack(">i", len(frame)) + frame)
            except OSError:  # it has hung up on us, or does not read: both are fine
                flags |= HANG_UP
            if flags & HANG_UP:
                peers.pop(number).close()
        for peer in peers.values():
            try:
                peer.recv(1 << 16)
            except OSError:
                continue
    finally:
        for peer in peers.values():
            peer.close()


def _connect(port: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), timeout=10)
    # No TIME_WAIT: thousands of connections a minute would use up the ports.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.settimeout(0.002)
    return peer


def end() -> dict[str, Any]:
    """What the honest client and the memory's watch saw."""
    if not _grounds:
        return {}
    ground = _grounds[0]
    times = sorted(ground.seconds)
    return {
        "broker idle": f"{ground.idle_kib >> 10} MiB",
        "broker peak": f"{ground.peak_kib >> 10} MiB",
        "honest p50": f"{times[len(times) // 2] * 1000:.2f} ms",
        "honest p99": f"{times[len(times) * 99 // 100] * 1000:.2f} ms",
        "honest worst": f"{times[-1] * 1000:.0f} ms",
    }


def close() -> None:
    """Stop the broker."""
    for ground in _grounds:
        ground.honest.socket.close()
        ground.end()
    _grounds.clear()
