"""Which segments go, and what becomes of the log and its files."""

from __future__ import annotations

from errno import ENOSPC

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.log import Log
from ottla.log.retention import RetentionLimits, SegmentFacts, deletable
from ottla.log.trash import Trash
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import (
    DIRECTORY,
    NOW_MS,
    PARENT,
    TOPIC_ID,
    append,
    batch,
    disk,
    offsets,
    reopened,
    taken,
)


def facts(*segments: tuple[int, int, int]) -> list[SegmentFacts]:
    """From (end offset, size, largest timestamp) of each."""
    last = len(segments) - 1
    return [
        SegmentFacts(end, size, number == last, lambda time_ms=time_ms: time_ms)  # type: ignore[misc]
        for number, (end, size, time_ms) in enumerate(segments)
    ]


SEGMENTS = facts((10, 100, 1000), (20, 100, 2000), (30, 100, 3000), (40, 50, 4000))


@pytest.mark.parametrize(
    ("retention_bytes", "expected"),
    [(-1, 0), (350, 0), (251, 0), (250, 1), (150, 2), (50, 3), (0, 4)],
)
def test_size_keeps_at_least_what_is_asked_for(retention_bytes: int, expected: int) -> None:
    limits = RetentionLimits(True, retention_bytes, -1)
    assert deletable(SEGMENTS, limits, log_start_offset=0, limit_offset=40, now_ms=0) == expected


@pytest.mark.parametrize(
    ("now_ms", "expected"), [(1500, 0), (1501, 1), (3500, 2), (3501, 3), (4501, 4)]
)
def test_age_is_that_of_the_newest_record(now_ms: int, expected: int) -> None:
    limits = RetentionLimits(True, -1, 500)
    assert (
        deletable(SEGMENTS, limits, log_start_offset=0, limit_offset=40, now_ms=now_ms) == expected
    )


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (19, 1), (20, 2), (39, 3), (40, 4)])
def test_nothing_goes_at_or_behind_the_limit(limit: int, expected: int) -> None:
    limits = RetentionLimits(True, -1, 0)
    assert (
        deletable(SEGMENTS, limits, log_start_offset=0, limit_offset=limit, now_ms=9999) == expected
    )


def test_young_segment_protects_those_behind_it() -> None:
    segments = facts((10, 1, 1000), (20, 1, 9000), (30, 1, 1000), (40, 1, 9000))
    limits = RetentionLimits(True, -1, 500)
    assert deletable(segments, limits, log_start_offset=0, limit_offset=40, now_ms=5000) == 1


def test_empty_active_segment_stays() -> None:
    segments = facts((10, 100, 1000), (10, 0, 1000))
    limits = RetentionLimits(True, 0, 0)
    assert deletable(segments, limits, log_start_offset=0, limit_offset=10, now_ms=9999) == 1


def test_segments_below_the_start_go_whatever_the_policy() -> None:
    limits = RetentionLimits(False, 0, 0)
    for start, expected in ((9, 0), (10, 1), (29, 2), (40, 3)):
        assert (
            deletable(SEGMENTS, limits, log_start_offset=start, limit_offset=40, now_ms=9999)
            == expected
        )


def new_log(on, **settings) -> tuple[Log, Trash]:  # type: ignore[no-untyped-def]
    trash = Trash(on)
    config = TopicConfig.of(segment_bytes=500, file_delete_delay_ms=1000, **settings)
    return Log.create(on, PARENT, "orders", 0, TOPIC_ID, config, NOW_MS, trash=trash), trash


def test_deleted_segments_are_renamed_and_removed_later() -> None:
    on = disk()
    log, trash = new_log(on, retention_bytes=600)
    for _ in range(12):
        append(log, size=100)
    count = log.delete_old_segments(NOW_MS, 12)
    assert count > 1
    start = log.log_start_offset
    assert start == log.segments.first.base_offset > 0
    assert 600 <= log.size_bytes < 600 + 500
    assert offsets(log) == list(range(start, 12))
    with pytest.raises(KafkaError) as caught:
        log.read(start - 1, 1, 12)
    assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
    deleted = [path for path in on.tree() if path.endswith(".deleted")]
    assert len([path for path in deleted if ".log" in path]) == count
    assert trash.take_due(NOW_MS + 999) == []
    trash.remove(trash.take_due(NOW_MS + 1000))
    assert not [path for path in on.tree() if path.endswith(".deleted")]


@pytest.mark.parametrize("done_before", range(12))
def test_segments_that_could_not_be_renamed_go_with_the_next_retention(done_before: int) -> None:
    """A full disk refuses new names too, and that is when retention matters."""
    on = disk()
    log, trash = new_log(on, retention_bytes=600)
    for sequence in range(12):
        log.append_as_leader(
            batch(size=100, producer_id=5, producer_epoch=0, base_sequence=sequence), 0, NOW_MS
        )
    before = {path for path in on.tree() if path.endswith((".log", ".snapshot"))}
    on.fail("rename", ENOSPC, after=done_before)
    try:
        log.delete_old_segments(NOW_MS, 12)
    except KafkaError:
        assert log.start_after_retention(NOW_MS, 12) == log.log_start_offset
        assert log.delete_old_segments(NOW_MS, 12) == 0
    assert log.start_after_retention(NOW_MS, 12) is None
    trash.remove(trash.take_due(NOW_MS + 1000))
    first = log.segments.first.base_offset
    gone = before - on.tree().keys()
    assert gone == {
        path for path in before if int(path.rpartition("/")[2].partition(".")[0]) < first
    }
    assert not [path for path in on.tree() if path.endswith(".deleted")]


def test_expired_active_segment_is_rolled_first() -> None:
    log, _ = new_log(disk(), retention_ms=1000)
    for _ in range(5):
        append(log, size=100)
    assert log.delete_old_segments(NOW_MS + 5000, 5) == 3
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (5, 5, 0)
    assert len(log.segments) == 1
    assert log.delete_old_segments(NOW_MS + 9000, 5) == 0
    assert append(log).base_offset == 5


def test_segments_without_time_expire_by_when_they_were_written() -> None:
    on = disk()
    on.now_ms = NOW_MS
    log, _ = new_log(on, retention_ms=1000)
    for _ in range(5):
        append(log, size=100, timestamp_ms=-1)
    assert log.delete_old_segments(NOW_MS + 1000, 5) == 0
    assert log.delete_old_segments(NOW_MS + 1001, 5) == 3


def test_retention_is_off_without_the_policy() -> None:
    log, _ = new_log(disk(), retention_ms=0, retention_bytes=0, cleanup_policy="compact")
    for _ in range(8):
        append(log, size=100)
    assert log.delete_old_segments(NOW_MS * 2, 8) == 0
    log.increment_log_start_offset(4, 8)
    assert log.delete_old_segments(NOW_MS * 2, 8) == 2


def test_log_start_moves_up_only_and_not_above_the_high_watermark() -> None:
    log, _ = new_log(disk())
    for _ in range(8):
        append(log)
    assert log.increment_log_start_offset(5, 6)
    assert not log.increment_log_start_offset(4, 6)
    assert log.log_start_offset == 5
    with pytest.raises(KafkaError) as caught:
        log.increment_log_start_offset(7, 6)
    assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
    assert offsets(log) == [5, 6, 7]
    found = log.offset_for_timestamp(0)
    assert found is not None
    assert found.offset == 5


def test_start_within_a_batch_hides_the_records_before_it() -> None:
    log, _ = new_log(disk())
    append(log, 10)
    log.increment_log_start_offset(4, 10)
    assert log.read(4, 1, 10).first_offset == 0
    found = log.offset_for_timestamp(NOW_MS)
    assert found is not None
    assert found.offset == 4


def test_deletion_without_room_for_a_new_segment_deletes_nothing() -> None:
    on = disk()
    log, _ = new_log(on, retention_ms=1000)
    append(log)
    on.fail("open", 28, path="00000000000000000001.log")
    with pytest.raises(KafkaError):
        log.delete_old_segments(NOW_MS + 5000, 1)
    assert offsets(log) == [0]


def test_truncation_drops_whole_batches_and_later_segments() -> None:
    on = disk()
    log, _ = new_log(on)
    for _ in range(12):
        append(log, 2, size=50)
    log.flush(NOW_MS)
    assert log.truncate_to(9, NOW_MS)
    assert (log.log_end_offset, log.flushed_end_offset) == (8, 8)
    assert offsets(log) == list(range(8))
    assert not log.truncate_to(8, NOW_MS)
    assert append(log, 2).base_offset == 8
    log.close(NOW_MS)
    log = reopened(on, clean=True, segment_bytes=500)
    assert offsets(log) == list(range(10))


def test_truncation_below_the_first_segment_empties_the_log() -> None:
    log, _ = new_log(disk(), retention_bytes=500)
    for _ in range(12):
        append(log, size=100)
    log.delete_old_segments(NOW_MS, 12)
    assert log.truncate_to(1, NOW_MS)
    assert (log.log_start_offset, log.log_end_offset) == (1, 1)
    assert append(log).base_offset == 1


def test_full_truncation_starts_anywhere() -> None:
    on = disk()
    log, _ = new_log(on)
    append(log, 3)
    read = log.read(0, 1000, 3)
    log.truncate_fully_and_start_at(50, NOW_MS)
    assert (log.log_start_offset, log.log_end_offset, log.flushed_end_offset) == (50, 50, 0)
    log.flush(NOW_MS)
    assert log.flushed_end_offset == 50
    assert log.latest_epoch == -1
    assert append(log).base_offset == 50
    assert len(taken(read)) > 0
    log.close(NOW_MS)
    log = reopened(on, clean=True)
    assert (log.log_start_offset, offsets(log)) == (50, [50])
    assert f"{DIRECTORY}/00000000000000000000.log.deleted" not in on.tree()
