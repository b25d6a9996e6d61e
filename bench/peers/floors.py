"""What the machine itself takes, in the same minute: plain writes to the page cache, reads of it, sends over the loopback."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.broker_process import warm_memory
from bench.peers.cells import Sample

BLOCK = memoryview(bytes(1_000_000))
BLOCKS = 400
GB = 1e9


def write_and_send() -> Sample:
    """Seconds a GB of a ``pwrite`` to the page cache, of a send to another thread, and of both."""
    written, sent = write_s(), send_s()
    return {
        "write s/GB": written,
        "send s/GB": sent,
        "MB/s": 1000 / (written + sent),
    }


def write_s() -> float:
    """Seconds a GB of ``pwrite`` to a new file's page cache."""
    warm_memory(BLOCKS * len(BLOCK) / GB * 1.2)
    with tempfile.TemporaryFile() as file:
        begin = time.perf_counter()
        for index in range(BLOCKS):
            os.pwrite(file.fileno(), BLOCK, index * len(BLOCK))
        return (time.perf_counter() - begin) / (BLOCKS * len(BLOCK) / GB)


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


def send_s() -> float:
    """Seconds a GB over the loopback, sender and receiver at once."""
    begin = time.perf_counter()
    with drained() as sender:
        for _ in range(BLOCKS):
            sender.sendall(BLOCK)
    return (time.perf_counter() - begin) / (BLOCKS * len(BLOCK) / GB)


def serve() -> Sample:
    """What lies in the page cache sent over the loopback, a megabyte at a time, by the better of two ways; and by each."""
    warm_memory(BLOCKS * len(BLOCK) / GB * 1.2)
    with tempfile.TemporaryFile() as file:
        for index in range(BLOCKS):
            os.pwrite(file.fileno(), BLOCK, index * len(BLOCK))
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
    """MB/s, and the sender's CPU seconds a GB."""
    size = BLOCKS * len(BLOCK)
    begin, cpu = time.perf_counter(), time.thread_time()
    with drained() as sender:
        for position in range(0, size, len(BLOCK)):
            send(sender, descriptor, position)
    used = time.thread_time() - cpu
    return size / 1e6 / (time.perf_counter() - begin), used / (size / GB)


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
