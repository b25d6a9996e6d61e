"""Which log is cleaned, how far, and in what company of segments."""

from __future__ import annotations

from typing import Any

from ottla.log.compaction.job import CleaningJob, SourceSegment
from ottla.log.compaction.plan import Dirtiness, dirtiness_of
from ottla.log.compaction.sources import group_segments
from ottla.log.log import Log
from ottla.log.rules import LogRules
from ottla.settings.definitions import TopicConfig
from tests.unit.log.compacting import job_of
from tests.unit.log.samples import NOW_MS, append, disk, idempotent, new_log

LONG_MAX = 2**63 - 1


def log_of(segments: int, **settings: Any) -> Log:
    """A compacted log of so many segments of 100 bytes and more, a minute apart, and an active one."""
    log = new_log(disk(), cleanup_policy="compact", **settings)
    for number in range(segments):
        append(log, 2, size=100, timestamp_ms=NOW_MS + number * 60_000)
        log.roll(NOW_MS)
    append(log, timestamp_ms=NOW_MS + segments * 60_000)
    return log


def look(log: Log, limit: int = LONG_MAX, now_ms: int = NOW_MS) -> Dirtiness:
    return dirtiness_of(log, limit, now_ms)


def test_all_but_the_active_segment_is_dirty_at_first() -> None:
    log = log_of(3)
    found = look(log)
    assert (found.first_dirty_offset, found.end_offset) == (0, 6)
    assert found.ratio == 1.0
    assert found.clean_bytes == 0
    assert found.dirty_bytes == log.size_bytes - log.segments.active.size_bytes


def test_clean_part_makes_a_log_less_dirty() -> None:
    log = log_of(4)
    log.mark_clean(6)
    found = look(log)
    assert (found.first_dirty_offset, found.end_offset) == (6, 8)
    assert found.ratio == 0.25
    assert found.is_due(0.2)
    assert not found.is_due(0.25), "it has to exceed the ratio"


def test_nothing_at_or_behind_the_limit_is_cleaned_nor_a_part_of_a_segment() -> None:
    log = log_of(4)
    assert look(log, 6).end_offset == 6
    assert look(log, 5).end_offset == 4
    assert look(log, 1).dirty_bytes == 0
    assert not look(log, 1).is_due(0.0)


def test_young_segments_are_left_until_min_compaction_lag_is_over() -> None:
    log = log_of(4, min_compaction_lag_ms=100_000)
    assert look(log, now_ms=NOW_MS + 180_002).end_offset == 4
    assert look(log, now_ms=NOW_MS + 280_002).end_offset == 8
    assert look(log, now_ms=NOW_MS).dirty_bytes == 0


def test_overdue_log_is_cleaned_however_little_is_dirty() -> None:
    log = log_of(4, max_compaction_lag_ms=30_000, min_cleanable_dirty_ratio=1.0)
    log.mark_clean(6)
    later = NOW_MS + 3 * 60_000 + 30_000
    assert not look(log, now_ms=later).is_due(1.0)
    assert look(log, now_ms=later + 500).overdue_ms == 499, "the first batch's largest timestamp"
    assert look(log, now_ms=later + 500).is_due(1.0)


def test_active_segment_rolls_in_time_for_max_compaction_lag() -> None:
    log = new_log(disk(), cleanup_policy="compact", max_compaction_lag_ms=30_000)
    append(log)
    append(log, timestamp_ms=NOW_MS + 30_001)
    assert len(log.segments) == 2
    log.update_config(TopicConfig.of(max_compaction_lag_ms=30_000))
    append(log, timestamp_ms=NOW_MS + 90_000)
    assert len(log.segments) == 2, "only a compacted log has to"


def test_clean_part_begins_where_the_log_does() -> None:
    log = log_of(4)
    log.mark_clean(2)
    log.increment_log_start_offset(5, 9)
    assert look(log).first_dirty_offset == 5


def test_log_that_was_cut_below_its_clean_part_is_dirty_behind_the_cut() -> None:
    log = log_of(4)
    log.mark_clean(6)
    log.truncate_to(4, NOW_MS)
    assert log.clean_end_offset == 4
    log.clean_end_offset = 100
    assert look(log).first_dirty_offset == 0, "whoever cut it did not say so"


def test_job_survives_json() -> None:
    import json

    log = log_of(2)
    log.append_as_leader(idempotent(7, 0), 0, NOW_MS)
    job = job_of(log)
    assert job.producers == {7: (5, 0)}
    assert CleaningJob.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_segments_are_grouped_by_size_index_and_offsets() -> None:
    rules = LogRules(TopicConfig.of(segment_bytes=1000, segment_index_bytes=100))

    def bases(*segments: SourceSegment) -> list[list[int]]:
        groups = group_segments(segments, rules, 2**40)
        return [[segment.base_offset for segment in group] for group in groups]

    def one(base: int, end: int, size: int = 100, index: int = 8, times: int = 12) -> SourceSegment:
        return SourceSegment(base, size, end, index, times)

    assert bases(one(0, 10, 500), one(10, 20, 500), one(20, 30, 1)) == [[0, 10], [20]]
    assert bases(one(0, 10, index=60), one(10, 20, index=60)) == [[0], [10]]
    assert bases(one(0, 10, times=60), one(10, 20, times=60)) == [[0], [10]]
    far = 2**31
    assert bases(one(0, 10), one(10, far), one(far, far + 10)) == [[0, 10], [far]]
    assert bases(one(0, 10), one(10, far + 10, size=0)) == [[0, 10]], "there is nothing in it"
    assert bases(one(0, 10, 2000), one(10, 20)) == [[0], [10]]
