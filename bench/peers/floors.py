"""What the machine itself takes, in the same minute: a plain write to the page cache and a send over the loopback."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time

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


def send_s() -> float:
    """Seconds a GB over the loopback, sender and receiver at once."""
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
        begin = time.perf_counter()
        for _ in range(BLOCKS):
            sender.sendall(BLOCK)
        sender.shutdown(socket.SHUT_WR)
        reader.join()
        return (time.perf_counter() - begin) / (BLOCKS * len(BLOCK) / GB)


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
