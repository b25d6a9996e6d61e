"""Batches, logs and disks for the tests of the log."""

from __future__ import annotations

from typing import Any

from ottla.log.disk import Disk
from ottla.log.log import AppendInfo, Log
from ottla.log.reading import LogRead
from ottla.records.batch import BatchHeader, iter_batches, read_header
from ottla.records.builder import build_batch
from ottla.records.codec import Record, decode_batch
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk

NOW_MS = 1_700_000_000_000
TOPIC_ID = bytes(range(16))
PARENT = "/logs"
DIRECTORY = "/logs/orders-0"


def batch(
    count: int = 1, *, size: int = 10, timestamp_ms: int = NOW_MS, **options: Any
) -> bytearray:
    """A batch of ``count`` records with values of ``size`` bytes, one millisecond apart."""
    records = [(timestamp_ms + number, b"k%d" % number, b"v" * size, []) for number in range(count)]
    return bytearray(build_batch(records, **options))


def idempotent(producer_id: int, sequence: int, count: int = 1, epoch: int = 0) -> bytearray:
    """A batch of an idempotent producer."""
    return batch(count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)


def disk(**options: Any) -> SimulatedDisk:
    """An empty simulated disk with the log directory."""
    made = SimulatedDisk(**options)
    made.mkdir(PARENT)
    made.sync_directory("/")
    return made


def new_log(on: Disk, **settings: Any) -> Log:
    """An empty log of orders-0."""
    return Log.create(on, PARENT, "orders", 0, TOPIC_ID, TopicConfig.of(**settings), NOW_MS)


def reopened(on: Disk, *, clean: bool = False, recovery_point: int = 0, **settings: Any) -> Log:
    """The log of orders-0 as a restart finds it."""
    config = TopicConfig.of(**settings)
    return Log.open(on, DIRECTORY, config, NOW_MS, clean=clean, recovery_point=recovery_point)


def append(to: Log, count: int = 1, **options: Any) -> AppendInfo:
    """Append one batch of ``count`` records as a client's."""
    return to.append_as_leader(batch(count, **options), 0, NOW_MS)


def taken(read: LogRead) -> bytes:
    """The bytes of a read, its regions closed."""
    parts = []
    for region in read.regions:
        parts.append(region.read())
        region.close()
    return b"".join(parts)


def headers(read: LogRead) -> list[BatchHeader]:
    """The headers of the whole batches of a read."""
    return [header for _, header in iter_batches(taken(read))]


def all_records(of: Log) -> list[Record]:
    """Every record from the log's start to its end."""
    offset, found = of.log_start_offset, []
    while offset < of.log_end_offset:
        content = taken(of.read(offset, 1 << 20, of.log_end_offset))
        for position, header in iter_batches(content):
            records = decode_batch(content, position=position)
            found += [record for record in records if record.offset >= offset]
            offset = header.next_offset
    return found


def offsets(of: Log) -> list[int]:
    """The offset of every record."""
    return [record.offset for record in all_records(of)]


def header_of(content: bytes | bytearray) -> BatchHeader:
    """The header of the first batch."""
    return read_header(content)
