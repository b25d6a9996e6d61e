"""What a flush makes durable, and in which order."""

from __future__ import annotations

from errno import EIO, ENOSPC

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.log import Log
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import (
    DIRECTORY,
    NOW_MS,
    append,
    batch,
    disk,
    new_log,
    offsets,
    reopened,
)


def syncs(on: SimulatedDisk) -> tuple[int, int]:
    return on.calls.get("fdatasync", 0), on.calls.get("fsync", 0)


def test_first_flush_makes_the_directory_and_all_in_it_durable() -> None:
    on = disk()
    log = new_log(on)
    append(log, 3)
    assert (log.flushed_end_offset, log.log_end_offset) == (0, 3)
    log.flush(NOW_MS)
    assert log.flushed_end_offset == 3
    on.lose_power()
    log = reopened(on, recovery_point=3)
    assert offsets(log) == [0, 1, 2]
    assert log.topic_id == bytes(range(16))
    assert log.epochs.entries == [(0, 0)]


def test_later_flush_syncs_one_file() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    log.flush(NOW_MS)
    before = syncs(on)
    append(log)
    log.flush(NOW_MS)
    assert syncs(on) == (before[0] + 1, before[1])


def test_flush_of_nothing_new_does_nothing() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    log.flush(NOW_MS)
    before = dict(on.calls)
    assert log.begin_flush() is None
    log.flush(NOW_MS)
    assert on.calls == before


def test_flush_after_a_roll_covers_the_old_segment_and_its_indexes() -> None:
    on = disk()
    log = new_log(on, segment_bytes=500, index_interval_bytes=100)
    wanted: list[Log] = []
    log.on_flush_wanted = wanted.append
    for _ in range(12):
        append(log, size=100)
    assert len(wanted) == len(log.segments) - 1
    log.flush(NOW_MS)
    on.lose_power()
    base = max(int(path[-24:-4]) for path in on.tree() if path.endswith(".log"))
    before = {
        path: content
        for path, content in on.tree().items()
        if path.endswith("index") and f"{base:020d}" not in path
    }
    assert len(before) > 2
    assert all(len(content) > 0 for content in before.values())
    log = reopened(on, recovery_point=base, segment_bytes=500, index_interval_bytes=100)
    assert offsets(log) == list(range(12))
    after = on.tree()
    assert {path: after[path] for path in before} == before


def test_first_flush_after_a_roll_covers_the_new_segments_name() -> None:
    on = disk()
    log = new_log(on, segment_bytes=200)
    append(log, size=100)
    log.flush(NOW_MS)
    append(log, size=100)
    assert len(log.segments) == 2
    log.flush(NOW_MS)
    on.lose_power()
    assert offsets(reopened(on, recovery_point=2, segment_bytes=200)) == [0, 1]


def test_epochs_are_durable_before_what_was_written_in_them() -> None:
    on = disk()
    log = new_log(on, segment_bytes=200)
    for epoch in (1, 1, 4, 4, 6):
        log.append_as_leader(batch(), epoch, NOW_MS)
        log.flush(NOW_MS)
    on.lose_power()
    log = reopened(on, recovery_point=5, segment_bytes=200)
    assert log.epochs.entries == [(1, 0), (4, 2), (6, 4)]


def test_records_appended_during_a_flush_are_not_covered_by_it() -> None:
    log = new_log(disk())
    append(log, 2)
    flush = log.begin_flush()
    assert flush is not None
    append(log, 3)
    flush.run()
    log.complete_flush(flush, NOW_MS)
    assert (log.flushed_end_offset, log.log_end_offset) == (2, 5)
    log.flush(NOW_MS)
    assert log.flushed_end_offset == 5


def test_flush_that_a_truncation_overtook_counts_for_nothing() -> None:
    log = new_log(disk())
    append(log, 2)
    append(log, 2)
    flush = log.begin_flush()
    assert flush is not None
    log.truncate_to(2, NOW_MS)
    append(log, 2)
    flush.run()
    log.complete_flush(flush, NOW_MS)
    assert log.flushed_end_offset == 0
    log.flush(NOW_MS)
    assert log.flushed_end_offset == 4


def test_completed_flush_tells_who_listens() -> None:
    log = new_log(disk())
    told: list[int] = []
    log.on_flushed = lambda of: told.append(of.flushed_end_offset)
    append(log, 2)
    log.flush(NOW_MS)
    append(log)
    log.flush(NOW_MS)
    assert told == [2, 3]


def test_flush_is_asked_for_after_flush_messages_records() -> None:
    log = new_log(disk(), flush_messages=5)
    wanted: list[int] = []
    log.on_flush_wanted = lambda of: wanted.append(of.log_end_offset)
    for _ in range(4):
        append(log)
    assert wanted == []
    append(log)
    assert wanted == [5]
    log.flush(NOW_MS)
    append(log, 4)
    assert wanted == [5]
    append(log)
    assert wanted == [5, 10]


def test_abandoned_flush_is_covered_by_the_next_one() -> None:
    on = disk()
    log = new_log(on, segment_bytes=500)
    for _ in range(12):
        append(log, size=100)
    flush = log.begin_flush()
    assert flush is not None
    log.abandon_flush(flush)
    log.flush(NOW_MS)
    on.lose_power()
    assert offsets(reopened(on, recovery_point=12, segment_bytes=500)) == list(range(12))


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_failed_sync_takes_the_directory_offline_for_good(call: str) -> None:
    on = disk()
    log = new_log(on)
    told: list[str] = []
    log.health.on_offline = lambda path, error: told.append(path)
    append(log)
    on.fail(call, EIO)
    with pytest.raises(KafkaError) as caught:
        log.flush(NOW_MS)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    before = syncs(on)
    for use in (lambda: log.flush(NOW_MS), lambda: append(log), lambda: log.read(0, 1, 1)):
        with pytest.raises(KafkaError):
            use()
    assert syncs(on) == before
    assert told == ["/logs"]
    log.close(NOW_MS, clean=False)


def test_failed_sync_for_lack_of_room_is_a_failed_sync() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    on.fail("fdatasync", ENOSPC)
    with pytest.raises(KafkaError):
        log.flush(NOW_MS)
    assert log.health.failure is not None


def test_flush_without_room_for_the_epochs_may_be_tried_again() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    on.fail("pwrite", ENOSPC, path="leader-epoch-checkpoint")
    with pytest.raises(KafkaError):
        log.flush(NOW_MS)
    assert log.health.failure is None
    log.flush(NOW_MS)
    assert log.flushed_end_offset == 1


def test_clean_close_leaves_everything_durable() -> None:
    on = disk()
    log = new_log(on, segment_bytes=500, index_interval_bytes=100)
    for _ in range(12):
        append(log, size=100)
    log.close(NOW_MS)
    before = {path: content for path, content in on.tree().items() if path.startswith(DIRECTORY)}
    assert f"{DIRECTORY}/00000000000000000012.snapshot" in before
    on.lose_power()
    assert on.tree() == before


def test_closed_log_takes_nothing() -> None:
    log = new_log(disk())
    append(log)
    log.close(NOW_MS)
    log.close(NOW_MS)
    for use in (lambda: append(log), lambda: log.read(0, 1, 1), lambda: log.roll(NOW_MS)):
        with pytest.raises(KafkaError, match="closed"):
            use()


def test_leadership_without_records_is_written_with_the_next_flush() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    log.flush(NOW_MS)
    log.begin_epoch(9)
    log.flush(NOW_MS)
    assert on.tree()[f"{DIRECTORY}/leader-epoch-checkpoint"] == b"0\n2\n0 0\n9 1\n"
