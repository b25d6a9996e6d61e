"""How long a start takes after ``kill -9``: seconds and CPU seconds a GB of log, with and without the page cache.

    python -m bench.recovery [--rounds 5] [--megabytes 1000]

The log is made over the wire: one prebuilt batch of an idempotent producer, 16 KiB as a Java producer's are,
with its sequence stamped anew, many in flight. Then the broker is killed, with nothing but the directory's own
marks of where it was synced (none: all is read again), and everything written is synced, as
``durability=disk`` leaves it. Each round starts a broker on the same log (hard links; what a start writes is
copied) and stops the clock at the first answered ListOffsets, which has to name the log's very end: the
start itself is in it. "Cold" rounds alternate with "warm" ones: the log's pages were given up with
``posix_fadvise`` before.

Beside it, in the same minute, the floors: reading the same bytes, cold and warm, and no more; and a ``pwrite`` of
as many to the page cache. A GB is 10^9 bytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from bench.broker_process import (
    GB,
    Connection,
    Frame,
    broker,
    cpu_seconds,
    create_topic_frame,
    free_port,
    require_no_error,
    write_floor,
)
from bench.figures import Figures, Goal, table
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import CRC_COVERS_FROM
from ottla.records.builder import build_batch
from ottla.records.crc import crc32c

TOPIC = "recovery"
NOW_MS = 1_700_000_000_000
RECORDS = 149  # of 100 bytes: 16 KiB with their framing
PRODUCER_ID = 4000
IN_FLIGHT = 64
GOAL = Goal(at_most=1.0)
_CRC_AT = 17
_SEQUENCE_AT = 53
_READ_BYTES = 1 << 20

LATEST = Frame(
    ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsTopic(
                name=TOPIC, partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)]
            )
        ],
    ),
    7,
)


class NumberedProduce:
    """A Produce of the same batch again and again, each with the next sequence."""

    def __init__(self) -> None:
        records = [(NOW_MS, None, bytes(100), ())] * RECORDS
        batch = bytes(
            build_batch(records, producer_id=PRODUCER_ID, producer_epoch=0, base_sequence=0)
        )
        self.batch_bytes = len(batch)
        data = PartitionProduceData(index=0, records=batch)
        topic = TopicProduceData(name=TOPIC, partition_data=[data])
        frame = Frame(ProduceRequest(acks=1, timeout_ms=30_000, topic_data=[topic]), 9)
        self._frame = bytearray(frame.bytes)
        self._at = frame.bytes.index(batch)

    def next(self, sequence: int) -> bytearray:
        """The request with that sequence; valid until the next call."""
        at, frame = self._at, self._frame
        struct.pack_into(">i", frame, at + _SEQUENCE_AT, sequence)
        covered = memoryview(frame)[at + CRC_COVERS_FROM : at + self.batch_bytes]
        struct.pack_into(">I", frame, at + _CRC_AT, crc32c(covered))
        covered.release()
        return frame


def fill(port: int, total_bytes: int) -> int:
    """Write that much; returns the number of records."""
    produce = NumberedProduce()
    connection = Connection(port)
    require_no_error(connection.answer(create_topic_frame(TOPIC)).topics[0].error_code)
    sock = connection.socket
    batches = -(-total_bytes // produce.batch_bytes)
    sent = answered = 0
    while answered < batches:
        while sent < batches and sent - answered < IN_FLIGHT:
            sock.sendall(produce.next(sent * RECORDS))
            sent += 1
        size = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))[0]
        sock.recv(size, socket.MSG_WAITALL)
        answered += 1
    connection.close()
    return batches * RECORDS


def make_log(data: Path, total_bytes: int) -> int:
    """A directory as ``kill -9`` leaves it, on disk; returns the log's end."""
    port = free_port()
    with broker(data, port, "durability=os") as process:
        records = fill(port, total_bytes)
        process.kill()
    for path in data.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    return records


def copy_of(template: Path, copy: Path) -> None:
    """The same directory: the logs' files by a link, all others copied."""

    def take(source: str, target: str) -> None:
        if source.endswith(".log"):
            os.link(source, target)
        else:
            shutil.copy2(source, target)

    shutil.copytree(template, copy, copy_function=take)


def log_files(data: Path) -> list[Path]:
    """The segments of the topic."""
    return sorted(data.glob(f"{TOPIC}-0/*.log"))


def give_up_pages(data: Path) -> None:
    """Ask the system to keep none of the log in memory."""
    for path in log_files(data):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(data: Path) -> float:
    """Read the log, as the floor does; the seconds."""
    buffer = bytearray(_READ_BYTES)
    begin = time.perf_counter()
    for path in log_files(data):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - begin


def recover(data: Path, end_offset: int) -> tuple[float, float]:
    """Start, and ask for the log's end: seconds until the answer, and the broker's CPU seconds."""
    port = free_port()
    begin = time.perf_counter()
    with broker(data, port) as process:
        took = time_to_answer(process, port, begin, end_offset)
        user, system = cpu_seconds(process)
        process.kill()
    return took, user + system


def time_to_answer(
    process: subprocess.Popen[bytes], port: int, begin: float, end_offset: int
) -> float:
    """Seconds from ``begin`` to an answer that names ``end_offset``."""
    connection = Connection(port)
    found = connection.answer(LATEST).topics[0].partitions[0]
    took = time.perf_counter() - begin
    connection.close()
    require_no_error(found.error_code)
    if found.offset != end_offset:
        raise RuntimeError(f"the log ends at {found.offset}, not at {end_offset}")
    return took


def measure(template: Path, end_offset: int, *, cold: bool, figures: Figures) -> None:
    """One round: the floor, and a start."""
    name = "cold" if cold else "warm"
    gigabytes = sum(path.stat().st_size for path in log_files(template)) / GB
    if cold:
        give_up_pages(template)
    figures[f"s/GB|floor: read the log once, {name}"].append(read_all(template) / gigabytes)
    figures["CPU s/GB|floor: pwrite to the page cache"].append(write_floor(template.parent))
    if cold:
        give_up_pages(template)
    with tempfile.TemporaryDirectory(prefix="round-", dir=template.parent) as directory:
        data = Path(directory) / "data"
        copy_of(template, data)
        took, cpu = recover(data, end_offset)
    figures[f"s/GB|start after kill -9, {name}"].append(took / gigabytes)
    figures[f"CPU s/GB|start after kill -9, {name}"].append(cpu / gigabytes)


def main() -> None:
    """Measure, alternating, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1000)
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        template = Path(directory) / "template"
        end_offset = make_log(template, options.megabytes * 1_000_000)
        for _ in range(options.rounds):
            for cold in (False, True):
                measure(template, end_offset, cold=cold, figures=figures)
    goals = {f"start after kill -9, {name}": GOAL for name in ("warm", "cold")}
    title = f"{options.megabytes} MB of log in 16 KiB batches"
    for unit in ("s/GB", "CPU s/GB"):
        part = {
            name.partition("|")[2]: values
            for name, values in sorted(figures.items())
            if name.startswith(f"{unit}|")
        }
        table(
            f"{unit}: {title}, {options.rounds} rounds",
            part,
            unit,
            2,
            goals if unit == "s/GB" else None,
        )


if __name__ == "__main__":
    main()
