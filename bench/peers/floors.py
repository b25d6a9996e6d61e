"""What the machine itself takes, in the same minute: plain writes to the page cache, reads of it, sends over the loopback.

Each is done several times and the least of it counts, since whatever else happens only adds to it: a floor says what
the machine can do, and one that is slower than who stands on it is none.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.peers import at_hand
from bench.peers.cells import Sample

BLOCK = memoryview(bytes(1_000_000))
BLOCKS = 400
TIMES = 3
FLOOR_NAMES = {
    "produce": "one thread's write, then its send",
    "fetch": "one connection that is sent a file",
}
"""Of ``write_and_send`` and of ``serve``."""
GB = 1e9
Cost = tuple[float, float]
"""Seconds a GB, and CPU seconds a GB."""


def write_and_send() -> Sample:
    """Seconds a GB of a ``pwrite`` to the page cache, of a send to another thread, and of both; CPU seconds of each."""
    at_hand.want(volume())
    written = min(write() for _ in range(TIMES))
    sent = min(send() for _ in range(TIMES))
    return {
        "write s/GB": written[0],
        "send s/GB": sent[0],
        "write CPU s/GB": written[1],
        "send CPU s/GB": sent[1],
        "MB/s": 1000 / (written[0] + sent[0]),
    }


def volume() -> int:
    """Bytes of a floor."""
    return BLOCKS * len(BLOCK)


@contextmanager
def timed() -> Iterator[list[float]]:
    """Two figures, there once the context has ended: its ``Cost``."""
    found: list[float] = []
    begin, cpu = time.perf_counter(), time.process_time()
    yield found
    found += [(time.perf_counter() - begin) / (volume() / GB)]
    found += [(time.process_time() - cpu) / (volume() / GB)]


def write() -> Cost:
    """Of ``pwrite`` to a new file's page cache."""
    with tempfile.TemporaryFile() as file:
        with timed() as found:
            _fill(file.fileno())
        return found[0], found[1]


def _fill(descriptor: int) -> None:
    for index in range(BLOCKS):
        os.pwrite(descriptor, BLOCK, index * len(BLOCK))


@contextmanager
def drained() -> Iterator[socket.socket]:
    """A connection whose other end is read by another thread until it is shut; all of it is when the context ends."""
    buffer = bytearray(1 << 20)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
        server.accept()[0] as taker,
    ):

        def take() -> None:
            while taker.recv_into(buffer):
                pass

        reader = threading.Thread(target=take)
        reader.start()
        try:
            yield sender
        finally:
            sender.shutdown(socket.SHUT_WR)
            reader.join()


def send() -> Cost:
    """Over the loopback, sender and receiver at once; the CPU seconds are of both."""
    with timed() as found, drained() as sender:
        for _ in range(BLOCKS):
            sender.sendall(BLOCK)
    return found[0], found[1]


def serve() -> Sample:
    """What lies in the page cache sent over the loopback, a megabyte at a time, by the better of two ways; and by each."""
    at_hand.want(volume())
    with tempfile.TemporaryFile() as file:
        _fill(file.fileno())
        by_sendfile = _served(file.fileno(), _sendfile)
        by_reading = _served(file.fileno(), _read_and_send)
    return {
        "MB/s": max(by_sendfile[0], by_reading[0]),
        "CPU s/GB": min(by_sendfile[1], by_reading[1]),
        "sendfile MB/s": by_sendfile[0],
        "sendfile CPU s/GB": by_sendfile[1],
        "read and send MB/s": by_reading[0],
        "read and send CPU s/GB": by_reading[1],
    }


def _served(
    descriptor: int, send: Callable[[socket.socket, int, int], None]
) -> tuple[float, float]:
    """MB/s, and the sender's CPU seconds a GB: the best of several times."""
    found = [_served_once(descriptor, send) for _ in range(TIMES)]
    return max(rate for rate, _ in found), min(cpu for _, cpu in found)


def _served_once(
    descriptor: int, send: Callable[[socket.socket, int, int], None]
) -> tuple[float, float]:
    begin, cpu = time.perf_counter(), time.thread_time()
    with drained() as sender:
        for position in range(0, volume(), len(BLOCK)):
            send(sender, descriptor, position)
    used = time.thread_time() - cpu
    return volume() / 1e6 / (time.perf_counter() - begin), used / (volume() / GB)


def _sendfile(sender: socket.socket, descriptor: int, position: int) -> None:
    end = position + len(BLOCK)
    while position < end:
        position += os.sendfile(sender.fileno(), descriptor, position, end - position)


_READ = memoryview(bytearray(len(BLOCK)))


def _read_and_send(sender: socket.socket, descriptor: int, position: int) -> None:
    os.preadv(descriptor, (_READ,), position)
    sender.sendall(_READ)


def synced_write_ms(size: int = 4096, count: int = 50) -> float:
    """Milliseconds of a write of ``size`` bytes with its ``fdatasync``: the median of ``count``."""
    times = []
    block = bytes(size)
    with tempfile.TemporaryFile() as file:
        for index in range(count):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), block, index * size)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return sorted(times)[count // 2] * 1000
