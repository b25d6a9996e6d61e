"""Appends that are gathered and written with one call are the appends that are written one by one."""

from __future__ import annotations

from errno import EIO, EMFILE, ENOSPC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.errors import ErrorCode, KafkaError
from ottla.log.log import GATHERED_BYTES_MAX, Log
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import (
    DIRECTORY,
    NOW_MS,
    append,
    batch,
    disk,
    headers,
    idempotent,
    new_log,
    reopened,
    taken,
)

BASE = f"{DIRECTORY}/00000000000000000000.log"


def gather(log: Log, records: bytearray) -> int:
    """Append without writing; the base offset."""
    return log.append_as_leader(records, 0, NOW_MS, gathered=True).base_offset


def everything(log: Log) -> bytes:
    """All that a reader gets."""
    return taken(log.read(log.log_start_offset, 1 << 30, log.log_end_offset))


def files(on: SimulatedDisk) -> dict[str, bytes]:
    """Every file of the log."""
    return {
        entry.name: on.read_file(f"{DIRECTORY}/{entry.name}") for entry in on.entries(DIRECTORY)
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 400), st.booleans(), st.integers(-50, 50)),
        max_size=25,
    )
)
def test_the_files_are_those_of_appends_one_by_one(
    appends: list[tuple[int, int, bool, int]],
) -> None:
    config = {"segment.bytes": 2000, "index.interval.bytes": 200}
    disks = disk(), disk()
    logs = [new_log(on, **{k.replace(".", "_"): v for k, v in config.items()}) for on in disks]
    for count, size, settle, time in appends:
        records = batch(count, size=size, timestamp_ms=NOW_MS + time)
        assert gather(logs[0], bytearray(records)) == append_one(logs[1], bytearray(records))
        if settle:
            logs[0].write_gathered(NOW_MS)
    logs[0].write_gathered(NOW_MS)
    assert everything(logs[0]) == everything(logs[1])
    for log in logs:
        log.close(NOW_MS)
    if appends:
        assert files(disks[0]) == files(disks[1])


def append_one(log: Log, records: bytearray) -> int:
    """Append and write; the base offset."""
    return log.append_as_leader(records, 0, NOW_MS).base_offset


@pytest.mark.parametrize("errno", [ENOSPC, EIO])
@pytest.mark.parametrize("before", [0, 3])
def test_a_gathered_write_that_fails_leaves_nothing_of_its_appends(errno: int, before: int) -> None:
    on = disk()
    log = new_log(on, index_interval_bytes=1)
    for number in range(before):
        log.append_as_leader(idempotent(7, number), 0, NOW_MS)
    if not before:
        log.append_as_leader(batch(), 0, NOW_MS)
    kept, end, undone = everything(log), log.log_end_offset, log.undone
    size = len(on.read_file(BASE))
    gather(log, idempotent(7, before))
    gather(log, batch(3, timestamp_ms=NOW_MS + 99))
    assert log.log_end_offset == end + 4
    on.fail("pwrite", error=errno)
    with pytest.raises(KafkaError) as raised:
        log.write_gathered(NOW_MS)
    on.heal()
    assert raised.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert log.undone != undone
    assert log.log_end_offset == end
    assert len(on.read_file(BASE)) == size
    if errno == EIO:
        assert log.health.failure is not None
        return
    assert everything(log) == kept
    assert log.max_timestamp_offset() is not None
    # What was refused may be sent again, and gets the offsets that nobody had.
    info = log.append_as_leader(idempotent(7, before), 0, NOW_MS)
    assert (info.base_offset, info.duplicate) == (end, False)
    assert [log.segments.first.find(offset) is not None for offset in range(end + 1)] == [True] * (
        end + 1
    )
    whole = everything(log)
    log.close(NOW_MS)
    assert everything(reopened(on)) == whole


def test_a_write_that_fails_and_cannot_be_cut_back_takes_the_directory_offline() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    gather(log, batch())
    on.fail("pwrite", error=ENOSPC)
    on.fail("ftruncate", error=EIO)
    with pytest.raises(KafkaError):
        log.write_gathered(NOW_MS)
    assert log.health.failure is not None
    with pytest.raises(KafkaError):
        append(log)


def test_batches_without_timestamps_are_gathered_like_others() -> None:
    on = disk()
    log = new_log(on)
    assert [gather(log, batch(timestamp_ms=-1)) for _ in range(3)] == [0, 1, 2]
    log.write_gathered(NOW_MS)
    assert gather(log, batch(timestamp_ms=-1)) == 3
    log.write_gathered(NOW_MS)
    assert [header.base_offset for header in headers(log.read(0, 1 << 20, 4))] == [0, 1, 2, 3]


def test_a_roll_and_a_large_batch_find_what_was_gathered_written() -> None:
    on = disk()
    log = new_log(on, segment_bytes=40_000)
    gather(log, batch(size=100))
    gather(log, batch(size=GATHERED_BYTES_MAX))  # too large to be gathered: both are written
    assert log.segments.active.gathered_bytes == 0
    assert len(on.read_file(BASE)) == log.size_bytes
    gather(log, batch(size=15_000))
    gather(log, batch(size=15_000))  # needs a new segment
    assert len(log.segments) == 2
    assert len(on.read_file(BASE)) == log.segments.first.size_bytes
    log.write_gathered(NOW_MS)
    assert len(everything(log)) == log.size_bytes


def test_a_roll_whose_gathered_write_fails_appends_nothing() -> None:
    on = disk()
    log = new_log(on, segment_bytes=2000)
    append(log)
    kept = everything(log)
    gather(log, batch(size=1500))
    on.fail("pwrite", error=ENOSPC)
    with pytest.raises(KafkaError):
        gather(log, batch(size=1500))
    on.heal()
    assert log.log_end_offset == 1
    assert len(log.segments) == 1
    assert everything(log) == kept


def test_a_full_disk_costs_no_reading_of_the_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    on = disk()
    log = new_log(on, index_interval_bytes=1000)
    for number in range(300):
        log.append_as_leader(idempotent(7, number), 0, NOW_MS)
    reads: list[int] = []
    real = on.pread

    def counted(descriptor: int, size: int, position: int) -> bytes:
        reads.append(size)
        return real(descriptor, size, position)

    monkeypatch.setattr(on, "pread", counted)
    for _ in range(5):
        gather(log, idempotent(7, 300))
        gather(log, idempotent(8, 0))
        on.fail("pwrite", error=ENOSPC, path=".log")
        with pytest.raises(KafkaError):
            log.write_gathered(NOW_MS)
        on.heal()
    assert sum(reads) < 200
    assert gather(log, idempotent(7, 300)) == 300
    assert log.append_as_leader(idempotent(7, 299), 0, NOW_MS).duplicate
    log.write_gathered(NOW_MS)
    assert log.producers.producers[7].last_sequence == 300


def test_what_a_full_disk_refuses_ends_no_flush_no_move_and_no_cleaning() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    log.begin_epoch(5)
    flush = log.begin_flush()
    assert flush is not None
    generation = log.generation
    log.append_as_leader(batch(), 5, NOW_MS, gathered=True)
    on.fail("pwrite", error=ENOSPC)
    with pytest.raises(KafkaError):
        log.write_gathered(NOW_MS)
    on.heal()
    flush.run()
    log.complete_flush(flush, NOW_MS)
    assert (log.generation, log.flushed_end_offset, log.latest_epoch) == (generation, 1, 5)


def test_a_batch_that_meets_an_error_before_it_is_written_is_not_gathered() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    append(log)
    log.close(NOW_MS)
    log = reopened(on, clean=True)
    for segment in log.segments:
        segment.close()
    on.fail("open", error=EMFILE, times=9, path=".log")  # how old the segment is, is not known yet
    for _ in range(2):
        with pytest.raises(KafkaError) as raised:
            gather(log, batch())
        assert raised.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    on.heal()
    assert log.segments.active.gathered_bytes == 0
    assert gather(log, batch()) == 2
    log.write_gathered(NOW_MS)
    assert len(everything(log)) == log.size_bytes
