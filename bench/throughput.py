"""What one broker takes and gives: requests and bytes a second, and its CPU seconds a GB.

    python -m bench.throughput [--rounds 5] [--seconds 1.5] [--only small]

A broker process per durability and round, alternating; the client is another process with prebuilt requests
and a plain socket, so that the broker is the limit. Large: 1 MB batches, 5 in flight. Small: one record of
100 bytes a request, 64 in flight on one connection. Fetch: 1 MB a partition out of the page cache. Then the
broker's resident memory after the GBs that went through it. A GB is 10^9 bytes.

Beside each, in the same minute, the physical floor: a ``pwrite`` to the page cache and a loopback ``send``
of the same bytes. What is written needs memory, and on a virtual machine that gives its free memory back the first
touch of a page is the host's work, counted as ours: a ``pwrite`` costs ten times as much CPU from the second GB
on. So produce is measured over less than a GB, with memory that was touched right before, and "sustained" beside it,
as is the floor.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from bench.broker_process import (
    GB,
    Connection,
    Frame,
    await_quiet,
    broker,
    cpu_seconds,
    create_topic_frame,
    free_port,
    require_no_error,
    resident_mb,
    warm_memory,
)
from bench.figures import Figures, Goal, table
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.builder import build_batch

TOPIC = "throughput"
NOW_MS = 1_700_000_000_000
RECORD_BYTES = 100
LARGE_RECORDS = 930  # of 1,024 bytes with their framing: a batch of about 1 MB, as a producer's are
DURABILITIES = ("os", "disk")
GOALS = {  # by unit and the beginning of the name
    ("GB/s", "1 MB produce"): Goal(at_least=0.7),
    ("CPU s/GB", "1 MB produce"): Goal(at_most=0.8),
    ("requests/s", "small produce"): Goal(at_least=60_000),
    ("CPU s/GB", "1 MB fetch"): Goal(at_most=0.8),
    ("MB", "resident"): Goal(at_most=80),
}
LARGE_DEPTH = 5
SMALL_DEPTH = 64
WARMED_GB = 0.9
"""As much as the system keeps to itself of what is free, where it has free page reporting."""
SHORT_S = 0.6
"""So long a produce writes less than that."""
FLOOR_BLOCKS = {"": 500, ", sustained": 2000}
FETCHED_BATCHES_MAX = 100


def produce_frame(records: bytes, acks: int, topic: str = TOPIC) -> Frame:
    """A Produce of one batch."""
    data = PartitionProduceData(index=0, records=records)
    produced = TopicProduceData(name=topic, partition_data=[data])
    return Frame(ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[produced]), 9)


def large_frame(acks: int, topic: str = TOPIC) -> Frame:
    """A Produce of a batch of 1 MB."""
    batch = build_batch([(NOW_MS, None, bytes(1100), ())] * LARGE_RECORDS)
    return produce_frame(bytes(batch), acks, topic)


def small_frame(acks: int, topic: str = TOPIC) -> Frame:
    """A Produce of one record of 100 bytes."""
    batch = build_batch([(NOW_MS, None, bytes(RECORD_BYTES), ())])
    return produce_frame(bytes(batch), acks, topic)


def fetch_frame(offset: int) -> Frame:
    """A Fetch of 1 MB from ``offset``."""
    wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1_000_000)
    return Frame(
        FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=50_000_000,
            topics=[FetchTopic(topic=TOPIC, partitions=[wanted])],
        ),
        12,
    )


# The client's side: run as a process of its own.


def pump(port: int, frame: bytes, depth: int, seconds: float) -> tuple[int, float]:
    """Keep ``depth`` requests on the way for ``seconds``; how many were answered, and the time."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(frame)
        head = sock.recv(4, socket.MSG_WAITALL)
        size = 4 + struct.unpack(">i", head)[0]
        sock.recv(size - 4, socket.MSG_WAITALL)
        step = max(1, depth // 2)
        batch = frame * step
        buffer = bytearray(1 << 20)
        answered = sent = left_over = 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            while sent - answered <= depth - step:
                sock.sendall(batch)
                sent += step
            left_over += sock.recv_into(buffer)
            answered += left_over // size
            left_over %= size
        took = time.perf_counter() - begin
        while answered < sent:
            left_over += sock.recv_into(buffer)
            answered += left_over // size
            left_over %= size
        return answered, took


def drain(port: int, frames: list[bytes], seconds: float) -> tuple[int, float]:
    """Fetch again and again for ``seconds``; how many bytes came, and the time."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        buffer = memoryview(bytearray(1 << 20))
        received = turn = 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            sock.sendall(frames[turn % len(frames)])
            turn += 1
            left = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))[0]
            if left < 1000:
                raise RuntimeError("an empty answer")
            received += left
            while left:
                left -= sock.recv_into(buffer[: min(left, len(buffer))])
        return received, time.perf_counter() - begin


def _client(arguments: list[str]) -> None:
    """``client WHAT PORT SECONDS NUMBER [TOPIC]``: print what ``pump`` or ``drain`` counted.

    The number is ``acks``, or how many batches there are to fetch.
    """
    what, port, seconds, number = arguments[0], int(arguments[1]), float(arguments[2]), arguments[3]
    topic = arguments[4] if len(arguments) > 4 else TOPIC
    if what == "large":
        counted = pump(port, large_frame(int(number), topic).bytes, LARGE_DEPTH, seconds)
    elif what == "small":
        counted = pump(port, small_frame(int(number), topic).bytes, SMALL_DEPTH, seconds)
    else:
        offsets = range(0, int(number) * LARGE_RECORDS, LARGE_RECORDS)
        counted = drain(port, [fetch_frame(offset).bytes for offset in offsets], seconds)
    print(*counted)


def run_client(
    process: subprocess.Popen[bytes], what: str, port: int, seconds: float, number: int
) -> tuple[int, float, float, float]:
    """Run a client process: its count and seconds, and the broker's user and system CPU seconds."""
    before = cpu_seconds(process)
    command = [sys.executable, "-m", "bench.throughput", "client", what]
    done = subprocess.run(
        [*command, str(port), str(seconds), str(number)], capture_output=True, text=True, check=True
    )
    after = cpu_seconds(process)
    counted, took = done.stdout.split()
    return int(counted), float(took), after[0] - before[0], after[1] - before[1]


def measure(durability: str, seconds: float, only: str, figures: Figures) -> None:
    """One broker's round."""
    acks = -1 if durability == "disk" else 1
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        port = free_port()
        with broker(Path(directory) / "data", port, f"durability={durability}") as process:
            connection = Connection(port)
            require_no_error(connection.answer(create_topic_frame(TOPIC)).topics[0].error_code)
            await_quiet(process)
            label = f"durability={durability}, acks={'all' if acks < 0 else acks}"
            through = 0.0
            if only in "large fetch":
                gb_each = len(large_frame(acks).bytes) / GB
                warm_memory(WARMED_GB)
                for name, how_long in (("", SHORT_S), ("sustained: ", seconds)):
                    count, took, user, system = run_client(process, "large", port, how_long, acks)
                    gigabytes = count * gb_each
                    through += gigabytes * GB
                    figures[f"GB/s|{name}1 MB produce, {label}"].append(gigabytes / took)
                    figures[f"CPU s/GB|{name}1 MB produce, {label}"].append(
                        (user + system) / gigabytes
                    )
                    if not name:
                        figures[f"CPU s/GB|  of which user, {label}"].append(user / gigabytes)
                count, took, user, system = run_client(
                    process, "fetch", port, seconds, min(count, FETCHED_BATCHES_MAX)
                )
                through += count
                figures[f"GB/s|1 MB fetch, {label}"].append(count / took / GB)
                figures[f"CPU s/GB|1 MB fetch, {label}"].append((user + system) / (count / GB))
            if only in "small":
                count, took, user, system = run_client(process, "small", port, seconds, acks)
                figures[f"requests/s|small produce, {label}"].append(count / took)
                figures[f"us|small produce: broker CPU a request, {label}"].append(
                    (user + system) / count * 1e6
                )
                figures[f"us|  of which system, {label}"].append(system / count * 1e6)
            if through > GB:
                figures[f"MB|resident after 1 GB or more, {label}"].append(resident_mb(process))
            connection.close()


def measure_floor(figures: Figures) -> None:
    """What the machine itself takes for the bytes: written to the page cache, and sent over loopback."""
    block = memoryview(bytes(1_000_000))
    warm_memory(WARMED_GB)
    for name, count in FLOOR_BLOCKS.items():
        with tempfile.TemporaryFile() as file:
            cpu, begin = time.process_time(), time.perf_counter()
            for index in range(count):
                os.pwrite(file.fileno(), block, index * len(block))
            figures[f"GB/s|floor: pwrite to the page cache{name}"].append(
                count * len(block) / GB / (time.perf_counter() - begin)
            )
            figures[f"CPU s/GB|floor: pwrite to the page cache{name}"].append(
                (time.process_time() - cpu) / (count * len(block) / GB)
            )
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
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(FLOOR_BLOCKS[""]):
            sender.sendall(block)
        sender.shutdown(socket.SHUT_WR)
        reader.join()
        gigabytes = FLOOR_BLOCKS[""] * len(block) / GB
        figures["GB/s|floor: loopback, both ends"].append(gigabytes / (time.perf_counter() - begin))
        figures["CPU s/GB|floor: loopback, both ends"].append(
            (time.process_time() - cpu) / gigabytes
        )


def main() -> None:
    """Measure, alternating, and print."""
    if sys.argv[1:2] == ["client"]:
        _client(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--only", default="", help="large or small")
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    for _ in range(options.rounds):
        for durability in DURABILITIES:
            measure(durability, options.seconds, options.only, figures)
        measure_floor(figures)
    by_unit: dict[str, Figures] = defaultdict(dict)
    for name, values in figures.items():
        unit, _, rest = name.partition("|")
        by_unit[unit][rest] = values
    digits: dict[str, int] = {"requests/s": 0, "MB": 0, "us": 1}
    for unit, part in by_unit.items():
        goals = {
            name: goal
            for (of, beginning), goal in GOALS.items()
            for name in part
            if of == unit and name.startswith(beginning)
        }
        table(f"{unit}, {options.rounds} rounds", part, unit, digits.get(unit, 2), goals)


if __name__ == "__main__":
    main()
