"""A log directory on a simulated disk, as the tests of what a directory keeps have it."""

from __future__ import annotations

from typing import Any

from ottla.log.directory import LogDirectory
from ottla.log.log import Log
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append

CONFIG = TopicConfig.of(segment_bytes=500, file_delete_delay_ms=1000)
PATH = "/data/logs"


def opened(on: SimulatedDisk, path: str = PATH, **options: Any) -> LogDirectory:
    """The directory after a start."""
    directory = LogDirectory(path, on, **options)
    directory.open()
    directory.load(lambda topic: CONFIG, NOW_MS)
    return directory


def create(directory: LogDirectory, partition: int = 0, records: int = 0) -> Log:
    """A new log of orders, with so many records."""
    log = directory.create("orders", partition, TOPIC_ID, CONFIG, NOW_MS)
    for _ in range(records):
        append(log)
    return log


def trimmed(directory: LogDirectory) -> Log:
    """A new log of orders that is synced, and of whose twelve records two are left."""
    log = create(directory, records=12)
    log.flush(NOW_MS)
    log.increment_log_start_offset(10, 12)
    return log


def checkpoint(directory: LogDirectory) -> None:
    """Write all checkpoints."""
    directory.write_checkpoints(directory.take_checkpoints())


def bounds(on: SimulatedDisk) -> tuple[int, int]:
    """Where the log of orders starts and ends after another start."""
    log = opened(on).logs["orders", 0]
    return log.log_start_offset, log.log_end_offset
