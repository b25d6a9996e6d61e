"""A partition that Apache Kafka wrote: loaded as it is, and recovered to the bytes that Kafka makes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ottla.log.dump import dump
from ottla.log.log import Log
from ottla.records.batch import iter_batches
from ottla.records.codec import Record, decode_batch
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.compacting import clean
from tests.unit.log.samples import NOW_MS, all_records

FILES = Path(__file__).parent / "kafka_files"
CONFIG = TopicConfig.of(segment_bytes=20000, index_interval_bytes=1000)
PARTITIONS = ("txn-0", "codecs-1")


def kafkas(partition: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (FILES / partition).iterdir()}


def loaded(partition: str, files: dict[str, bytes], *, clean: bool) -> tuple[Log, SimulatedDisk]:
    disk = SimulatedDisk()
    disk.mkdir("/logs")
    disk.mkdir(f"/logs/{partition}")
    for name, content in files.items():
        disk.write_file(f"/logs/{partition}/{name}", content)
    return Log.open(disk, f"/logs/{partition}", CONFIG, NOW_MS, clean=clean), disk


def left(disk: SimulatedDisk) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: content for path, content in disk.tree().items()}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_clean_partition_of_kafka_is_loaded_and_left_as_it_was(partition: str) -> None:
    log, disk = loaded(partition, kafkas(partition), clean=True)
    log.close(NOW_MS)
    assert left(disk) == kafkas(partition)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_crashed_partition_of_kafka_is_recovered_to_kafkas_bytes(partition: str) -> None:
    files = kafkas(partition)
    for name in list(files):
        if name.endswith((".index", ".timeindex")):
            files[name] = bytes(120_000)  # preallocated, and nothing of it on the disk
        elif name.endswith(".snapshot"):
            del files[name]
    files["00000000000000000000.log"] += bytes(3000)
    log, disk = loaded(partition, files, clean=False)
    log.close(NOW_MS)
    assert left(disk) == kafkas(partition)


def test_records_of_every_codec_are_read() -> None:
    log, _ = loaded("codecs-1", kafkas("codecs-1"), clean=True)
    records = all_records(log)
    assert [record.offset for record in records] == list(range(500))
    assert {record.value.split()[3][:4] for record in records if record.value} == {
        b"none",
        b"gzip",
        b"snap",
        b"lz4v",
        b"zstd",
    }
    assert len(log.producers.producers) == 5


def test_open_transaction_of_kafka_is_known() -> None:
    log, _ = loaded("txn-0", kafkas("txn-0"), clean=False)
    assert log.producers.first_undecided_offset == 18
    assert log.log_end_offset == 19


def test_aborted_transactions_of_kafka_are_told() -> None:
    path = str(FILES / "txn-0" / "00000000000000000000.txnindex")
    (line,) = dump(path)
    assert (line["firstOffset"], line["lastOffset"], line["lastStableOffset"]) == (6, 11, 12)


def batches_of(contents: Iterable[bytes]) -> list[tuple[tuple[object, ...], list[Record]]]:
    """The batches that have records: all of their headers but what compression decides, and the records."""
    found = []
    for content in contents:
        for position, header in iter_batches(content):
            if header.record_count:
                facts = header._replace(length=0, crc=0, base_timestamp_ms=0)
                records = decode_batch(content, position=position)
                found.append(((*facts, header.delete_horizon_ms), records))
    return found


def test_cleaning_keeps_what_kafkas_cleaner_keeps() -> None:
    files = {path.name: path.read_bytes() for path in (FILES / "cleaned/before/t-0").iterdir()}
    kafkas = [path.read_bytes() for path in sorted((FILES / "cleaned/after").iterdir())]
    disk = SimulatedDisk()
    disk.mkdir("/logs")
    disk.mkdir("/logs/t-0")
    for name, content in files.items():
        disk.write_file(f"/logs/t-0/{name}", content)
    config = TopicConfig.of(
        cleanup_policy="compact",
        segment_bytes=9000,
        index_interval_bytes=200,
        delete_retention_ms=1000,
    )
    log = Log.open(disk, "/logs/t-0", config, NOW_MS, clean=True)
    log.mark_clean(92)
    clean(disk, log, NOW_MS + 600)
    ours = [disk.read_file(segment.log_file.path) for segment in log.segments]
    assert batches_of(ours) == batches_of(kafkas)
    assert len(batches_of(ours)) == 9
