"""Appending to a log and reading from it."""

from __future__ import annotations

from errno import EIO, ENOSPC

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.log import Log, UnexpectedAppendOffset
from ottla.records.batch import TimestampType, iter_batches, verify_crc
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import (
    DIRECTORY,
    NOW_MS,
    append,
    batch,
    disk,
    header_of,
    headers,
    new_log,
    offsets,
    reopened,
    taken,
)


@pytest.fixture
def log() -> Log:
    return new_log(disk())


def test_batches_get_consecutive_offsets(log: Log) -> None:
    assert [append(log, count).base_offset for count in (1, 3, 2)] == [0, 1, 4]
    assert log.log_end_offset == 6
    assert offsets(log) == [0, 1, 2, 3, 4, 5]


def test_batch_is_stamped_in_place_and_stored_as_it_came(log: Log) -> None:
    append(log, 2)
    sent = batch(3)
    before = bytes(sent)
    info = log.append_as_leader(memoryview(sent), 7, NOW_MS)
    assert (info.base_offset, info.last_offset, info.record_count) == (2, 4, 3)
    stored = taken(log.read(2, 1 << 20, log.log_end_offset))
    assert stored == bytes(sent)
    assert stored[16:] == before[16:]
    assert (header_of(stored).base_offset, header_of(stored).leader_epoch) == (2, 7)


def test_create_time_answers_no_append_time(log: Log) -> None:
    assert append(log).log_append_time_ms == -1


def test_log_append_time_is_stamped_with_a_new_checksum() -> None:
    log = new_log(disk(), message_timestamp_type="LogAppendTime")
    assert append(log, timestamp_ms=5).log_append_time_ms == NOW_MS
    stored = taken(log.read(0, 1 << 20, 1))
    header = header_of(stored)
    verify_crc(stored, header)
    assert header.timestamp_type is TimestampType.LOG_APPEND_TIME
    assert header.max_timestamp_ms == NOW_MS
    found = log.offset_for_timestamp(NOW_MS)
    assert found is not None
    assert (found.offset, found.timestamp_ms) == (0, NOW_MS)


def test_failed_write_leaves_nothing_and_the_log_goes_on() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    size = log.size_bytes
    on.fail("pwrite", ENOSPC)
    with pytest.raises(KafkaError) as caught:
        append(log)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert (log.log_end_offset, log.size_bytes) == (1, size)
    assert len(on.tree()[f"{DIRECTORY}/00000000000000000000.log"]) == size
    assert append(log).base_offset == 1
    assert offsets(log) == [0, 1]


def test_a_write_that_fails_amid_a_batch_leaves_no_part_of_it() -> None:
    """KAFKA-10778: nor is anything written behind what it left."""
    on = disk()
    log = new_log(on)
    append(log)
    before = on.tree()
    on.write_short(30)
    on.fail("pwrite", ENOSPC, after=1)
    with pytest.raises(KafkaError, match="No space left"):
        append(log, 5, size=100)
    assert on.tree() == before
    log.flush(NOW_MS)
    on.lose_power()
    log = reopened(on, recovery_point=1)
    assert append(log, 2).base_offset == 1
    assert offsets(log) == [0, 1, 2]


def test_full_disk_refuses_until_there_is_room() -> None:
    on = disk(capacity_bytes=20_000)
    log = new_log(on)
    for _ in range(15):
        append(log, size=1000)
    written = 15
    with pytest.raises(KafkaError, match="No space left"):
        append(log, size=10_000)
    assert offsets(log) == list(range(written))
    on.capacity_bytes = None
    assert append(log, size=1000).base_offset == written
    assert log.health.failure is None


def test_short_write_is_completed() -> None:
    on = disk()
    log = new_log(on)
    append(log)
    on.write_short(5)
    append(log, 2)
    assert offsets(log) == [0, 1, 2]


@pytest.mark.parametrize("error", [EIO, ENOSPC])  # some file systems need room to cut
def test_failed_write_that_cannot_be_cut_back_takes_the_directory_offline(error: int) -> None:
    on = disk()
    log = new_log(on)
    append(log)
    on.fail("pwrite", ENOSPC)
    on.fail("ftruncate", error)
    with pytest.raises(KafkaError):
        append(log)
    for use in (lambda: append(log), lambda: log.read(0, 1, 1), log.begin_flush):
        with pytest.raises(KafkaError) as caught:
            use()
        assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR


def test_broken_disk_takes_the_directory_offline() -> None:
    on = disk()
    log = new_log(on)
    on.fail("pwrite", EIO)
    with pytest.raises(KafkaError):
        append(log)
    assert log.health.failure is not None


def test_directory_that_cannot_be_made_leaves_nothing_behind() -> None:
    on = disk()
    log = new_log(on)
    on.fail("pwrite", ENOSPC)
    with pytest.raises(KafkaError):
        append(log)
    assert on.tree() == {}
    assert append(log).base_offset == 0


def test_new_partition_touches_no_disk() -> None:
    on = disk()
    calls = dict(on.calls)
    log = new_log(on)
    assert on.calls == calls
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (0, 0, 0)
    assert log.begin_flush() is None
    assert log.read(0, 100, 0).regions == []
    log.close(NOW_MS)
    assert on.tree() == {}


def test_several_batches_of_a_coordinator_are_appended_together(log: Log) -> None:
    append(log)
    both = batch(2) + batch(3)
    info = log.append_as_leader(both, 4, NOW_MS, from_client=False)
    assert (info.base_offset, info.last_offset, info.record_count) == (1, 5, 5)
    assert [header.base_offset for header in headers(log.read(1, 1 << 20, 6))] == [1, 3]
    assert log.latest_epoch == 4


def test_several_batches_of_which_one_is_corrupt_are_refused_together(log: Log) -> None:
    both = batch(2) + batch(3)
    both[-1] ^= 1
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(both, 0, NOW_MS, from_client=False)
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE
    assert log.log_end_offset == 0


def test_follower_takes_the_leaders_offsets_and_leaves_a_partial_batch(log: Log) -> None:
    leader = new_log(disk())
    for count in (2, 3, 4):
        append(leader, count)
    sent = taken(leader.read(0, 1 << 20, 9))
    cut = sent[:-10]
    info = log.append_as_follower(cut, NOW_MS)
    assert info is not None
    assert (info.base_offset, info.last_offset, log.log_end_offset) == (0, 4, 5)
    assert log.append_as_follower(sent[-9:], NOW_MS) is None
    rest = taken(leader.read(5, 1 << 20, 9))
    log.append_as_follower(rest, NOW_MS)
    assert taken(log.read(0, 1 << 20, 9)) == sent


def test_follower_refuses_what_it_has_already(log: Log) -> None:
    leader = new_log(disk())
    append(leader, 2)
    sent = taken(leader.read(0, 1 << 20, 2))
    log.append_as_follower(sent, NOW_MS)
    with pytest.raises(UnexpectedAppendOffset):
        log.append_as_follower(sent, NOW_MS)


def test_follower_splits_a_large_fetch_over_segments() -> None:
    leader = new_log(disk())
    for _ in range(10):
        append(leader, size=100)
    sent = taken(leader.read(0, 1 << 20, 10))
    follower = new_log(disk(), segment_bytes=500)
    follower.append_as_follower(sent, NOW_MS)
    assert len(follower.segments) > 3
    assert offsets(follower) == list(range(10))


def test_batch_larger_than_a_segment_is_refused() -> None:
    log = new_log(disk(), segment_bytes=200)
    with pytest.raises(KafkaError) as caught:
        append(log, size=300)
    assert caught.value.code is ErrorCode.RECORD_LIST_TOO_LARGE


def test_segment_rolls_by_size() -> None:
    log = new_log(disk(), segment_bytes=500)
    for _ in range(10):
        append(log, size=100)
    sizes = [segment.size_bytes for segment in log.segments]
    assert len(sizes) > 3
    assert max(sizes) <= 500
    assert offsets(log) == list(range(10))


def test_segment_rolls_by_the_age_of_its_first_batch() -> None:
    log = new_log(disk(), segment_ms=1000)
    append(log, timestamp_ms=NOW_MS)
    append(log, timestamp_ms=NOW_MS + 1000)
    assert len(log.segments) == 1
    append(log, timestamp_ms=NOW_MS + 1001)
    assert [segment.base_offset for segment in log.segments] == [0, 2]


def test_segment_of_records_without_time_rolls_by_the_clock() -> None:
    log = new_log(disk(), segment_ms=1000)
    untimed = {"timestamp_ms": -1}
    log.append_as_leader(batch(**untimed), 0, NOW_MS)
    log.append_as_leader(batch(**untimed), 0, NOW_MS + 1000)
    assert len(log.segments) == 1
    log.append_as_leader(batch(**untimed), 0, NOW_MS + 1001)
    assert len(log.segments) == 2


def test_jitter_rolls_earlier_and_the_same_each_time() -> None:
    on = disk()
    log = new_log(on, segment_ms=100_000, segment_jitter_ms=90_000)
    append(log)
    jitter = log.segments.active.jitter_ms
    assert 0 < jitter < 90_000
    append(log, timestamp_ms=NOW_MS + 100_000 - jitter + 1)
    assert len(log.segments) == 2


def test_segment_rolls_when_an_index_is_full() -> None:
    log = new_log(disk(), index_interval_bytes=0, segment_index_bytes=80)
    for number in range(20):
        append(log, timestamp_ms=NOW_MS + number)
    assert len(log.segments) > 2
    assert max(segment.offset_index.entries for segment in log.segments) <= 10
    assert max(segment.time_index.entries for segment in log.segments) <= 6


def test_segment_rolls_where_offsets_are_too_far_apart(log: Log) -> None:
    far = batch()
    far[:8] = (2**31 + 5).to_bytes(8, "big")
    append(log)
    log.append_as_follower(far, NOW_MS)
    assert [segment.base_offset for segment in log.segments] == [0, 2**31 + 5]
    assert offsets(log) == [0, 2**31 + 5]


def test_roll_without_room_goes_on_with_the_old_segment() -> None:
    on = disk()
    log = new_log(on, segment_bytes=500)
    while log.segments.active.size_bytes + 178 <= 500:
        append(log, size=100)
    end = log.log_end_offset
    on.fail("open", ENOSPC, path=".log")
    with pytest.raises(KafkaError):
        append(log, size=100)
    assert (log.log_end_offset, len(log.segments)) == (end, 1)
    append(log, size=100)
    assert len(log.segments) == 2
    assert offsets(log) == list(range(end + 1))


def test_read_starts_at_the_batch_that_has_the_offset(log: Log) -> None:
    for _ in range(5):
        append(log, 10)
    read = log.read(23, 1, 50)
    assert read.first_offset == 20
    assert [header.base_offset for header in headers(read)] == [20]


def test_read_is_cut_at_max_bytes_within_a_batch_but_never_within_the_first(log: Log) -> None:
    for _ in range(5):
        append(log, 10, size=100)
    size = log.size_bytes // 5
    assert log.read(0, 1, 50).size_bytes == size
    assert log.read(0, size + 7, 50).size_bytes == size + 7
    assert log.read(0, 7, 50, at_least_one=False).size_bytes == 7
    assert log.read(0, 0, 50, at_least_one=False).regions == []


def test_read_ends_before_the_first_batch_that_reaches_the_limit(log: Log) -> None:
    for _ in range(5):
        append(log, 10)
    for limit, ends in ((50, 50), (49, 40), (40, 40), (31, 30), (11, 10)):
        read = log.read(0, 1 << 20, limit)
        assert headers(read)[-1].next_offset == ends, limit
    assert log.read(0, 1 << 20, 9).regions == []
    assert log.read(0, 1 << 20, 0).regions == []


def test_read_at_the_end_is_empty_and_outside_is_refused(log: Log) -> None:
    append(log, 3)
    read = log.read(3, 100, 3)
    assert (read.regions, read.first_offset, read.size_bytes) == ([], 3, 0)
    for offset in (-1, 4):
        with pytest.raises(KafkaError) as caught:
            log.read(offset, 100, 3)
        assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE


def test_read_goes_on_in_the_next_segment() -> None:
    log = new_log(disk(), segment_bytes=500)
    for _ in range(10):
        append(log, size=100)
    read = log.read(1, 1 << 20, 8)
    assert len(read.regions) > 2
    assert [header.base_offset for header in headers(read)] == list(range(1, 8))


def test_region_outlives_the_segments_deletion() -> None:
    on = disk(descriptors_max=16)
    log = new_log(on, segment_bytes=500)
    for _ in range(10):
        append(log, size=100)
    read = log.read(0, 100, 10)
    log.increment_log_start_offset(10, 10)
    assert log.delete_old_segments(NOW_MS, 10) > 0
    for path in list(on.tree()):
        if path.endswith(".deleted"):
            on.unlink(path)
    assert header_of(taken(read)).base_offset == 0


def test_closed_region_gives_nothing(log: Log) -> None:
    append(log)
    region = log.read(0, 100, 1).regions[0]
    region.close()
    region.close()
    with pytest.raises(OSError, match="closed"):
        region.read()


def test_region_of_a_cut_file_reads_no_garbage(log: Log) -> None:
    append(log)
    append(log)
    region = log.read(1, 1000, 2).regions[0]
    log.truncate_to(1, NOW_MS)
    with pytest.raises(OSError, match="ends"):
        region.read()


def test_settings_change_at_once(log: Log) -> None:
    append(log, size=1000)
    log.update_config(TopicConfig.of(max_message_bytes=500))
    with pytest.raises(KafkaError) as caught:
        append(log, size=1000)
    assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE


def test_corruption_met_by_a_read_quarantines_the_log() -> None:
    on = disk()
    log = new_log(on)
    for _ in range(200):
        append(log, size=100)
    content = on.tree()[f"{DIRECTORY}/00000000000000000000.log"]
    starts = [position for position, _ in iter_batches(content)]
    log.segments.active.log_file.write_at(b"\xff" * 60, starts[50])
    with pytest.raises(KafkaError) as caught:
        log.read(52, 1000, 200)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    with pytest.raises(KafkaError, match="quarantined"):
        append(log)
    assert f"{DIRECTORY}/quarantined" in on.tree()
    assert log.health.failure is None


@pytest.mark.parametrize(
    "settings", [{"retention_bytes": 400}, {"retention_ms": 5}, {"retention_bytes": 0}, {}]
)
def test_where_retention_will_let_the_log_start_is_known_before(settings: dict[str, int]) -> None:
    for start, limit in ((0, 20), (0, 7), (9, 20)):
        log = new_log(disk(), segment_bytes=200, **settings)
        for number in range(20):
            append(log, timestamp_ms=NOW_MS - 20 + number)
        log.increment_log_start_offset(start, 20)
        before = log.log_start_offset, len(log.segments)
        told = log.start_after_retention(NOW_MS, limit)
        assert (log.log_start_offset, len(log.segments)) == before
        assert (told is not None) == bool(log.delete_old_segments(NOW_MS, limit))
        assert log.log_start_offset == (before[0] if told is None else told)
        if told is not None:
            assert told <= max(limit, start)
