"""What compaction keeps of a log, and what it makes of the batches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ottla.log.compaction.cleaning import Cleaning
from ottla.log.compaction.job import CORRUPT, UNCLEANABLE, CleaningFailed
from ottla.log.log import Log
from ottla.records.batch import BatchHeader, CompressionType, TimestampType
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.compacting import LIMITS, clean, job_of, latest, swap_in
from tests.unit.log.samples import (
    NOW_MS,
    all_records,
    disk,
    idempotent,
    new_log,
    offsets,
    reopened,
)

SETTINGS = {"cleanup_policy": ("compact",), "delete_retention_ms": 1000}
DAY_MS = 86_400_000

Pair = tuple[str | None, str | None]


@pytest.fixture
def on() -> SimulatedDisk:
    return disk()


def put(log: Log, *pairs: Pair, timestamp_ms: int = NOW_MS, **options: object) -> None:
    """Append one batch of keys and values (None: a tombstone)."""
    records = [
        (timestamp_ms + n, key and key.encode(), value and value.encode(), ())
        for n, (key, value) in enumerate(pairs)
    ]
    batch = build_batch(records, **options)  # type: ignore[arg-type]
    log.append_as_leader(batch, 0, NOW_MS, from_client=False)


def batches(log: Log) -> list[BatchHeader]:
    return [header for segment in log.segments for _, header in segment.headers()]


def keys(log: Log) -> list[Pair]:
    return [
        (record.key and record.key.decode(), record.value and record.value.decode())
        for record in all_records(log)
    ]


def test_newest_record_of_each_key_stays_with_its_offset(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    put(log, ("a", "1"), ("b", "1"), ("a", "2"))
    put(log, ("c", "1"), ("b", "2"))
    log.roll(NOW_MS)
    put(log, ("a", "3"))
    done = clean(on, log)
    assert done.clean_end_offset == log.clean_end_offset == 5
    assert keys(log) == [("a", "2"), ("c", "1"), ("b", "2"), ("a", "3")]
    assert offsets(log) == [2, 3, 4, 5], "what is in the active segment is not looked at"
    assert done.counts.records_read == 5
    assert done.counts.records_kept == 3


def test_batch_keeps_all_of_its_header_but_the_records(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    log.append_as_leader(bytearray(idempotent(7, 0, 3, epoch=2)), 4, NOW_MS)
    put(log, ("k0", "x"), ("k2", "x"))
    (old, _) = batches(log)
    log.roll(NOW_MS)
    clean(on, log)
    (new, _) = batches(log)
    assert new.record_count == 1
    assert (
        new._replace(
            length=old.length, crc=old.crc, record_count=3, max_timestamp_ms=old.max_timestamp_ms
        )
        == old
    )
    assert new.max_timestamp_ms == NOW_MS + 1, "the largest of those that stay"


@pytest.mark.parametrize("codec", list(CompressionType))
def test_batches_of_every_codec_are_rewritten_in_it(
    on: SimulatedDisk, codec: CompressionType
) -> None:
    log = new_log(on, **SETTINGS)
    put(log, ("a", "1" * 500), ("b", "1" * 500), ("c", None), compression=codec)
    put(log, ("a", "2"))
    log.roll(NOW_MS)
    clean(on, log)
    assert [header.compression for header in batches(log)] == [codec, CompressionType.NONE]
    assert keys(log) == [("b", "1" * 500), ("c", None), ("a", "2")]
    assert [record.timestamp_ms - NOW_MS for record in all_records(log)] == [1, 2, 0]


def test_batch_of_which_everything_stays_is_copied_as_it_is(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    put(log, ("a", "1"), ("b", "1"))
    log.roll(NOW_MS)
    before = on.tree()
    clean(on, log)
    assert on.tree() == before, "and where all batches are, nothing is written"
    assert log.clean_end_offset == 2


def test_tombstone_stays_for_delete_retention_and_then_goes(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    put(log, ("a", "1"))
    put(log, ("a", None), ("b", "1"), timestamp_ms=NOW_MS - DAY_MS)
    log.roll(NOW_MS)
    clean(on, log, NOW_MS)
    (tombstones,) = batches(log)
    assert keys(log) == [("a", None), ("b", "1")]
    assert tombstones.delete_horizon_ms == NOW_MS + 1000, "counted from the first cleaning"
    assert [record.timestamp_ms for record in all_records(log)] == [
        NOW_MS - DAY_MS,
        NOW_MS - DAY_MS + 1,
    ]
    put(log, ("z", "1"))
    log.roll(NOW_MS)
    clean(on, log, NOW_MS + 999)
    assert ("a", None) in keys(log)
    put(log, ("z", "2"))
    log.roll(NOW_MS)
    clean(on, log, NOW_MS + 1000)
    assert keys(log) == [("b", "1"), ("z", "2")]
    assert latest(log) == {b"b": b"1", b"z": b"2"}


def test_horizon_is_set_once(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    put(log, ("a", None), ("b", "1"))
    for pause in range(3):
        put(log, ("z", str(pause)))
        log.roll(NOW_MS)
        clean(on, log, NOW_MS + pause * 100)
    assert batches(log)[0].delete_horizon_ms == NOW_MS + 1000


def test_horizon_under_log_append_time_leaves_the_records_their_time(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    put(log, ("a", None), ("b", "1"), timestamp_type=TimestampType.LOG_APPEND_TIME)
    log.roll(NOW_MS)
    clean(on, log, NOW_MS + 50)
    assert batches(log)[0].delete_horizon_ms == NOW_MS + 1050
    assert [record.timestamp_ms for record in all_records(log)] == [NOW_MS + 1, NOW_MS + 1]


def test_last_batch_of_a_producer_stays_as_a_header_and_so_does_its_sequence(
    on: SimulatedDisk,
) -> None:
    log = new_log(on, **SETTINGS)
    log.append_as_leader(idempotent(7, 0), 0, NOW_MS)
    log.append_as_leader(idempotent(7, 1), 0, NOW_MS)
    put(log, ("k0", "newer"), ("other", "1"))
    log.roll(NOW_MS)
    clean(on, log)
    emptied, _ = batches(log)
    assert (emptied.base_offset, emptied.record_count, emptied.last_sequence) == (1, 0, 1)
    assert emptied.max_timestamp_ms == NOW_MS, "so that it expires when it would have"
    log.close(NOW_MS, clean=False)
    for path in on.tree():
        if path.endswith(".snapshot"):
            on.unlink(path)
    again = reopened(on, **SETTINGS)
    assert again.append_as_leader(idempotent(7, 1), 0, NOW_MS).duplicate
    assert not again.append_as_leader(idempotent(7, 2), 0, NOW_MS).duplicate


def test_end_of_a_cleaned_segment_is_told_by_its_last_batch(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS, segment_bytes=300)
    for number in range(12):
        put(log, ("same", str(number) * 50))
    log.roll(NOW_MS)
    clean(on, log)
    assert keys(log) == [("same", "11" * 50)]
    for segment in list(log.segments)[:-1]:
        end = log.segments.end_of(segment, log.log_end_offset)
        *_, (_, last) = segment.headers()
        assert last.next_offset == end


def test_records_without_a_key_go_and_are_counted(on: SimulatedDisk) -> None:
    log = new_log(on)
    put(log, (None, "old"), ("a", "1"), (None, "old"))
    log.roll(NOW_MS)
    log.update_config(TopicConfig.of(**SETTINGS))
    done = clean(on, log)
    assert keys(log) == [("a", "1")]
    assert done.counts.keyless == 2


def test_segments_become_few_up_to_segment_bytes(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS, segment_bytes=1000)
    for number in range(40):
        put(log, (f"k{number % 4}", "v" * 100))
    log.roll(NOW_MS)
    assert len(log.segments) > 6
    clean(on, log)
    sizes = [segment.size_bytes for segment in log.segments]
    clean_again = len(log.segments)
    put(log, ("x", "1"))
    log.roll(NOW_MS)
    clean(on, log)
    assert len(log.segments) <= clean_again
    assert max(sizes) <= 1000
    assert sorted(latest(log)) == [b"k0", b"k1", b"k2", b"k3", b"x"]


def test_cleaning_goes_as_far_as_the_map_has_room(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    for number in range(30):
        put(log, (f"k{number}", "old"))
    log.roll(NOW_MS)
    for number in range(30):
        put(log, (f"k{number}", "new"))
    log.roll(NOW_MS)
    small = LIMITS._replace(dedupe_bytes=24 * 23)
    ends = []
    for _ in range(8):
        ends.append(clean(on, log, limits=small).clean_end_offset)
        assert len(latest(log)) == 30
        assert set(latest(log).values()) == {b"new"}
        if ends[-1] == 60:
            break
    assert ends == [20, 40, 60]
    assert keys(log) == [(f"k{number}", "new") for number in range(30)]


def test_log_that_no_map_has_room_for_is_uncleanable(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    put(log, *((f"k{number}", "v") for number in range(50)))
    log.roll(NOW_MS)
    with pytest.raises(CleaningFailed, match=r"log\.cleaner\.dedupe\.buffer\.size") as failed:
        clean(on, log, limits=LIMITS._replace(dedupe_bytes=24 * 23))
    assert failed.value.kind == UNCLEANABLE


def test_damaged_batch_ends_the_cleaning_as_corrupt(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    put(log, ("a", "1"))
    put(log, ("a", "value"))
    log.roll(NOW_MS)
    path = log.segments.first.log_file.path
    content = bytearray(on.read_file(path))
    content[-3] ^= 1
    on.write_file(path, bytes(content))
    with pytest.raises(CleaningFailed, match="checksum") as failed:
        clean(on, log)
    assert failed.value.kind == CORRUPT


def test_whole_batch_with_nonsense_in_it_is_uncleanable_and_not_corrupt(on: SimulatedDisk) -> None:
    from ottla.records.batch import pack_header, read_header

    log = new_log(on)
    batch = build_batch([(NOW_MS, b"key", b"value", ())])
    batch[61] = 0x7F  # the record's length
    pack_header(batch, read_header(batch))
    log.append_as_leader(batch, 0, NOW_MS)
    log.roll(NOW_MS)
    log.update_config(TopicConfig.of(**SETTINGS))
    with pytest.raises(CleaningFailed) as failed:
        clean(on, log)
    assert failed.value.kind == UNCLEANABLE


def test_every_reader_finds_its_way_over_the_gaps(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS, segment_bytes=700, index_interval_bytes=100)
    for number in range(60):
        put(log, (f"k{number % 7}", "v" * 40), timestamp_ms=NOW_MS + 10 * number)
    log.roll(NOW_MS)
    put(log, ("last", "1"), timestamp_ms=NOW_MS + 1000)
    model = [(record.offset, record.timestamp_ms) for record in all_records(log)][-8:]
    clean(on, log)
    for restarted in (False, True):
        if restarted:
            log.close(NOW_MS)
            log = reopened(on, clean=True, **SETTINGS)
        assert [(one.offset, one.timestamp_ms) for one in all_records(log)] == model
        for offset in range(61):
            content = log.read(offset, 1 << 20, log.log_end_offset)
            first = min(one for one, _ in model if one >= offset)
            records = [
                record
                for region in content.regions
                for record in _records(region.read())
                if record >= offset
            ]
            assert records[0] == first, f"a fetch at {offset}"
        for offset, timestamp_ms in model:
            found = log.offset_for_timestamp(timestamp_ms)
            assert found is not None
            assert found.offset == offset
            between = log.offset_for_timestamp(timestamp_ms - 1)
            assert between is not None
            assert between.offset == offset
        largest = log.max_timestamp_offset()
        assert largest is not None
        assert largest.offset == 60
        assert log.end_offset_for_epoch(0) == (0, 61)


def _records(content: bytes) -> Sequence[int]:
    from ottla.records.batch import iter_batches

    return [
        record.offset
        for position, _ in iter_batches(content)
        for record in decode_batch(content, position=position)
    ]


def test_largest_timestamp_of_an_emptied_batch_is_nobodys(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    future = build_batch(
        [(NOW_MS + 5000, b"k", b"1", ())], producer_id=7, producer_epoch=0, base_sequence=0
    )
    log.append_as_leader(future, 0, NOW_MS)
    put(log, ("a", "1"), timestamp_ms=NOW_MS + 10)
    put(log, ("k", "2"))
    log.roll(NOW_MS)
    clean(on, log)
    assert [header.record_count for header in batches(log)] == [0, 1, 1]
    found = log.max_timestamp_offset()
    assert found is not None
    assert (found.offset, found.timestamp_ms) == (1, NOW_MS + 10)


def test_follower_takes_a_log_with_gaps_and_has_the_same_bytes(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS)
    for number in range(20):
        put(log, (f"k{number % 3}", "v" * 40))
    log.roll(NOW_MS)
    put(log, ("last", "1"))
    clean(on, log)
    read = log.read(0, 1 << 20, log.log_end_offset)
    content = b"".join(region.read() for region in read.regions)
    follower = Log.create(on, "/logs", "copy", 0, bytes(16), TopicConfig.of(**SETTINGS), NOW_MS)
    follower.append_as_follower(content, NOW_MS)
    assert follower.log_end_offset == log.log_end_offset
    assert all_records(follower) == all_records(log)


def test_swap_is_refused_once_its_segments_are_gone(on: SimulatedDisk) -> None:
    log = new_log(on, **SETTINGS, segment_bytes=300)
    for number in range(12):
        put(log, ("same", str(number) * 50))
    log.roll(NOW_MS)
    steps = Cleaning(job_of(log), on, lambda size: None).run()
    group = next(steps)
    log.increment_log_start_offset(5, log.log_end_offset)
    assert log.delete_old_segments(NOW_MS, log.log_end_offset)
    assert not swap_in(on, log, group)  # type: ignore[arg-type]
    assert latest(log) == {b"same": b"11" * 50}
