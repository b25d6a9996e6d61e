"""Starting again: after a clean stop, after a crash, after a power loss, and on damaged files."""

from __future__ import annotations

from errno import EIO
from typing import Any

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.loading import QuarantinedLog
from ottla.log.log import Log
from ottla.log.producer_snapshot import encode_snapshot
from ottla.log.producer_state import ProducerEntry
from ottla.log.recovery import CorruptLog
from ottla.records.batch import iter_batches
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import (
    DIRECTORY,
    NOW_MS,
    append,
    batch,
    disk,
    idempotent,
    new_log,
    offsets,
    reopened,
)

SMALL: dict[str, Any] = {"segment_bytes": 600, "index_interval_bytes": 150}
LOG = f"{DIRECTORY}/00000000000000000000.log"


def filled(on: SimulatedDisk, batches: int = 20, **settings: Any) -> Log:
    log = new_log(on, **(settings or SMALL))
    for number in range(batches):
        append(log, 1 + number % 3, timestamp_ms=NOW_MS + number)
    return log


def crashed(on: SimulatedDisk, log: Log) -> None:
    """The process is gone; what it wrote is in the page cache."""
    log.close(NOW_MS, clean=False)


def files(on: SimulatedDisk) -> dict[str, bytes]:
    """What is in the partition's directory and not on its way out."""
    return {
        path: content
        for path, content in on.tree().items()
        if path.startswith(DIRECTORY) and not path.endswith(".deleted")
    }


def overwrite(on: SimulatedDisk, path: str, position: int, content: bytes) -> None:
    file = on.file(path)
    file.write_at(content, position)
    file.close()


def test_clean_stop_reads_no_batch_but_the_last_ones() -> None:
    on = disk()
    filled(on, 50, segment_bytes=1 << 20, index_interval_bytes=150).close(NOW_MS)
    before = on.calls.get("pread", 0)
    log = reopened(on, clean=True)
    assert on.calls["pread"] - before < 12
    assert log.log_end_offset == log.flushed_end_offset == 99
    assert offsets(log) == list(range(99))
    assert append(log).base_offset == 99


def test_clean_close_and_open_change_no_byte() -> None:
    on = disk()
    filled(on).close(NOW_MS)
    before = files(on)
    reopened(on, clean=True, **SMALL).close(NOW_MS)
    assert files(on) == before


def test_crash_keeps_every_batch_and_rebuilds_the_same_indexes() -> None:
    on = disk()
    log = filled(on)
    expected = offsets(log)
    crashed(on, log)
    log = reopened(on, **SMALL)
    assert offsets(log) == expected
    assert log.flushed_end_offset == log.log_end_offset
    log.close(NOW_MS)
    recovered = files(on)
    other = disk()
    filled(other).close(NOW_MS)
    assert recovered == files(other)


@pytest.mark.parametrize("segment_bytes", [600, 1 << 20])
def test_recovery_without_leader_epochs_finds_them_and_reads_no_batch_twice(
    segment_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"segment_bytes": segment_bytes}
    on = disk()
    log = new_log(on, **settings)
    for number in range(60):
        log.append_as_leader(batch(2, size=100), number // 7, NOW_MS)
    crashed(on, log)
    on.remove(f"{DIRECTORY}/leader-epoch-checkpoint")
    pread = on.pread
    read_bytes = 0

    def counted(descriptor: int, size: int, position: int) -> bytes:
        nonlocal read_bytes
        data = pread(descriptor, size, position)
        read_bytes += len(data)
        return data

    monkeypatch.setattr(on, "pread", counted)
    recovered = reopened(on, **settings)
    epochs = [log.end_offset_for_epoch(epoch) for epoch in range(9)]
    assert len(set(epochs)) == 9
    assert [recovered.end_offset_for_epoch(epoch) for epoch in range(9)] == epochs
    assert read_bytes < 1.5 * recovered.size_bytes


def test_recovery_twice_gives_the_same_bytes() -> None:
    on = disk()
    log = filled(on)
    crashed(on, log)
    last = max(path for path in files(on) if path.endswith(".log"))
    overwrite(on, last, len(on.tree()[last]), b"torn")
    reopened(on, **SMALL)
    once = files(on)
    reopened(on, **SMALL)
    assert files(on) == once


CHANGING = ("pwrite", "ftruncate", "rename", "unlink", "mkdir")


def test_recovery_of_a_log_that_nobody_wrote_to_changes_no_file() -> None:
    on = disk()
    log = new_log(on, **SMALL)
    for sequence in range(30):
        log.append_as_leader(idempotent(7, sequence), 0, NOW_MS + sequence)
    log.close(NOW_MS)
    crashed(on, reopened(on, clean=True, **SMALL))
    before, calls = files(on), dict(on.calls)
    assert any(path.endswith(".snapshot") for path in before)
    log = reopened(on, **SMALL)
    assert files(on) == before
    assert {name: on.calls.get(name) for name in CHANGING} == {
        name: calls.get(name) for name in CHANGING
    }
    assert log.flushed_end_offset == 30


def test_recovery_of_a_segment_that_was_never_closed_makes_no_files_for_it() -> None:
    """With ten thousand such partitions, the making of two files each takes half of the start's time."""
    on = disk()
    log = filled(on, 5, segment_bytes=1 << 20)
    log.flush(NOW_MS)
    expected = offsets(log)
    crashed(on, log)
    before = files(on)
    assert not any(path.endswith((".timeindex", ".snapshot")) for path in before)
    log = reopened(on)
    assert files(on) == before
    assert offsets(log) == expected
    log.close(NOW_MS)
    undisturbed = disk()
    filled(undisturbed, 5, segment_bytes=1 << 20).close(NOW_MS)
    assert files(on) == files(undisturbed)


def test_a_snapshot_that_the_log_does_not_bear_out_is_replaced_or_removed() -> None:
    on = disk()
    log = new_log(on)
    for sequence in range(5):
        log.append_as_leader(idempotent(7, sequence), 0, NOW_MS)
    log.close(NOW_MS)
    (right,) = [path for path in files(on) if path.endswith(".snapshot")]
    expected = files(on)
    other = {9: ProducerEntry(9)}
    on.write_file(right, encode_snapshot(other))
    on.write_file(right.replace("5.snapshot", "3.snapshot"), encode_snapshot(other))
    on.write_file(right.replace("5.snapshot", "8.snapshot"), encode_snapshot(other))
    log = reopened(on)
    assert list(log.producers.producers) == [7]
    assert files(on) == expected


def test_an_index_of_more_than_the_log_holds_is_cut() -> None:
    on = disk()
    log = filled(on, 40, segment_bytes=1 << 20, index_interval_bytes=150)
    log.close(NOW_MS)
    content = on.tree()[LOG]
    position, _ = list(iter_batches(content))[10]
    overwrite(on, LOG, position, b"torn")
    log = reopened(on, index_interval_bytes=150)
    fresh = disk()
    expected = filled(fresh, 10, segment_bytes=1 << 20, index_interval_bytes=150)
    expected.close(NOW_MS)
    log.close(NOW_MS)
    assert files(on) == files(fresh)


def test_torn_tail_is_cut_at_any_byte() -> None:
    whole = disk()
    log = new_log(whole)
    for count in (1, 2, 3):
        append(log, count)
    crashed(whole, log)
    content = whole.tree()[LOG]
    ends = [position + header.size_bytes for position, header in iter_batches(content)]
    for size in range(len(content)):
        on = disk()
        on.mkdir(DIRECTORY)
        on.write_file(LOG, content[:size])
        log = reopened(on)
        kept = [end for end in ends if end <= size]
        assert log.size_bytes == (kept[-1] if kept else 0)
        assert log.log_end_offset == (0, 1, 3, 6)[len(kept)]
        assert len(on.tree()[LOG]) == log.size_bytes


@pytest.mark.parametrize("tail", [b"\x00" * 4096, b"\xff" * 100, bytes(range(200)), b"\x00"])
def test_garbage_behind_the_last_batch_is_cut(tail: bytes) -> None:
    on = disk()
    log = filled(on, 5, segment_bytes=1 << 20)
    size, end = log.size_bytes, log.log_end_offset
    crashed(on, log)
    overwrite(on, LOG, size, tail)
    log = reopened(on)
    assert (log.size_bytes, log.log_end_offset) == (size, end)
    assert append(log).base_offset == end


def test_damage_behind_the_recovery_point_drops_what_follows() -> None:
    on = disk()
    log = filled(on)
    crashed(on, log)
    second = sorted(path for path in files(on) if path.endswith(".log"))[1]
    base = int(second[-24:-4])
    overwrite(on, second, 70, b"\xff\xff\xff")
    log = reopened(on, recovery_point=base, **SMALL)
    assert log.log_end_offset == base
    assert len(log.segments) == 2
    assert append(log).base_offset == base
    assert offsets(log) == list(range(base + 1))
    assert not [path for path in files(on) if path.endswith(".log") and int(path[-24:-4]) > base]


def test_damage_below_the_recovery_point_quarantines_and_cuts_nothing() -> None:
    on = disk()
    log = filled(on)
    end = log.log_end_offset
    crashed(on, log)
    logs = {path: content for path, content in files(on).items() if path.endswith(".log")}
    last = sorted(logs)[-1]
    overwrite(on, last, 70, b"\xff\xff\xff")
    logs[last] = on.tree()[last]
    with pytest.raises(CorruptLog) as caught:
        reopened(on, recovery_point=end, **SMALL)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert (caught.value.path, caught.value.position) == (last, 0)
    assert {path: content for path, content in files(on).items() if path in logs} == logs
    for clean in (True, False):
        with pytest.raises(QuarantinedLog, match="damaged"):
            reopened(on, clean=clean, recovery_point=0, **SMALL)


def test_a_log_that_ends_below_its_recovery_point_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whole batches are missing, so that nothing shows in what is left: but it was on the disk once."""
    on = disk()
    log = new_log(on)
    sizes = []
    for count in (1, 2, 3):
        append(log, count)
        sizes.append(log.size_bytes)
    crashed(on, log)
    file = on.file(LOG)
    file.truncate(sizes[1])
    assert reopened(on, recovery_point=3).log_end_offset == 3
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert reopened(on, recovery_point=6).log_end_offset == 3
    errors = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert [error["message"] for error in errors] == ["log ends below its recovery point"]
    told = {"directory": DIRECTORY, "log_end_offset": 3, "recovery_point": 6}
    assert errors[0]["fields"] == told


def test_quarantine_ends_when_its_file_is_removed() -> None:
    on = disk()
    crashed(on, filled(on))
    overwrite(on, LOG, 70, b"\xff")
    with pytest.raises(CorruptLog):
        reopened(on, recovery_point=5, **SMALL)
    on.unlink(f"{DIRECTORY}/quarantined")
    assert reopened(on, recovery_point=0, **SMALL).log_end_offset == 0


def test_offsets_that_go_back_end_the_log() -> None:
    on = disk()
    log = filled(on, 3, segment_bytes=1 << 20)
    size, end = log.size_bytes, log.log_end_offset
    crashed(on, log)
    overwrite(on, LOG, size, bytes(on.tree()[LOG][:size]))
    log = reopened(on)
    assert (log.size_bytes, log.log_end_offset) == (size, end)


def test_leader_epoch_that_goes_back_is_a_leftover_of_a_cut() -> None:
    on = disk()
    log = new_log(on)
    for epoch in (1, 2, 1):
        log.append_as_leader(batch(), epoch, NOW_MS)
    crashed(on, log)
    assert reopened(on, recovery_point=1).log_end_offset == 2


def test_leader_epoch_that_goes_back_below_the_recovery_point_is_believed() -> None:
    on = disk()
    log = new_log(on)
    for epoch in (1, 2, 1):
        log.append_as_leader(batch(), epoch, NOW_MS)
    crashed(on, log)
    assert reopened(on, recovery_point=3).log_end_offset == 3


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("damage", ["missing", "odd size", "nonsense"])
def test_unusable_index_is_rebuilt_to_the_same_lookups(
    clean: bool, suffix: str, damage: str
) -> None:
    on = disk()
    log = filled(on, 60)
    times = [NOW_MS + number for number in range(0, 60, 7)]
    expected = [log.offset_for_timestamp(time) for time in times]
    end = log.log_end_offset
    log.close(NOW_MS, clean=clean)
    for path in [path for path in files(on) if path.endswith(suffix)]:
        content = on.tree()[path]
        if damage == "missing":
            on.unlink(path)
        elif damage == "odd size":
            on.write_file(path, content + b"x")
        else:
            on.write_file(path, bytes([0xF3]) * len(content))
    log = reopened(on, clean=clean, recovery_point=end, **SMALL)
    assert [log.offset_for_timestamp(time) for time in times] == expected
    for offset in range(end):
        read = log.read(offset, 1, end)
        assert read.first_offset <= offset
        for region in read.regions:
            region.close()
    assert offsets(log) == list(range(end))


def test_index_that_points_elsewhere_is_rebuilt_when_it_is_used() -> None:
    on = disk()
    log = filled(on, 60, segment_bytes=1 << 20, index_interval_bytes=150)
    end = log.log_end_offset
    log.close(NOW_MS)
    path = LOG.replace(".log", ".index")
    content = bytearray(on.tree()[path])
    content[28:32] = (77).to_bytes(4, "big")
    on.write_file(path, bytes(content))
    log = reopened(on, clean=True)
    assert offsets(log) == list(range(end))
    assert [log.read(offset, 1, end).first_offset <= offset for offset in range(end)]


def test_index_that_leads_past_an_offset_is_rebuilt_when_it_is_used() -> None:
    on = disk()
    log = filled(on, 60, segment_bytes=1 << 20, index_interval_bytes=150)
    end = log.log_end_offset
    log.close(NOW_MS)
    path = LOG.replace(".log", ".index")
    content = bytearray(on.tree()[path])
    content[28:32] = content[44:48]  # a batch begins there, but two entries further on
    on.write_file(path, bytes(content))
    log = reopened(on, clean=True)
    assert all(log.read(offset, 1, end).first_offset <= offset for offset in range(end))
    assert offsets(log) == list(range(end))


def test_orphaned_index_is_removed() -> None:
    on = disk()
    filled(on).close(NOW_MS)
    on.write_file(f"{DIRECTORY}/00000000000000009999.index", b"")
    reopened(on, clean=True, **SMALL)
    assert f"{DIRECTORY}/00000000000000009999.index" not in files(on)


def test_leftovers_of_deletions_and_cleanings_are_removed() -> None:
    on = disk()
    log = filled(on)
    end = log.log_end_offset
    log.close(NOW_MS)
    for name in (
        "00000000000000000000.log.deleted",
        "00000000000000000000.index.cleaned",
        "00000000000000000007.log.cleaned",
        "leader-epoch-checkpoint.tmp",
    ):
        on.write_file(f"{DIRECTORY}/{name}", b"x")
    log = reopened(on, clean=True, **SMALL)
    assert log.log_end_offset == end
    assert not [
        path
        for path in on.tree()
        if not path.endswith(
            (".log", ".index", ".timeindex", ".snapshot", "checkpoint", "metadata")
        )
    ]


def test_interrupted_swap_is_finished() -> None:
    on = disk()
    log = filled(on, 9)
    log.close(NOW_MS)
    merged = b"".join(on.tree()[path] for path in sorted(files(on)) if path.endswith(".log"))
    segments = len([path for path in files(on) if path.endswith(".log")])
    assert segments > 1
    on.write_file(f"{LOG}.swap", merged)
    log = reopened(on, clean=False)
    assert len(log.segments) == 1
    assert offsets(log) == list(range(18))


def test_swap_of_an_unfinished_split_is_dropped() -> None:
    on = disk()
    log = filled(on, 9)
    log.close(NOW_MS)
    on.write_file(f"{DIRECTORY}/00000000000000000005.log.swap", b"x")
    on.write_file(f"{DIRECTORY}/00000000000000000002.log.cleaned", b"x")
    log = reopened(on, clean=True, **SMALL)
    assert offsets(log) == list(range(18))


def test_log_that_ends_before_its_start_begins_again_there() -> None:
    on = disk()
    crashed(on, filled(on, 3))
    log = Log.open(on, DIRECTORY, new_log(disk()).config, NOW_MS, log_start_offset=100)
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (100, 100, 0)
    assert append(log).base_offset == 100


def test_old_message_formats_are_refused_and_left_alone() -> None:
    import zlib

    body = b"\x01\x00" + (NOW_MS).to_bytes(8, "big") + b"\xff\xff\xff\xff" + b"\x00\x00\x00\x01v"
    message = zlib.crc32(body).to_bytes(4, "big") + body
    content = bytes(8) + len(message).to_bytes(4, "big") + message
    on = disk()
    on.mkdir(DIRECTORY)
    on.write_file(LOG, content)
    with pytest.raises(CorruptLog, match="format version 1"):
        reopened(on)
    assert on.tree()[LOG] == content


def test_power_loss_keeps_what_was_flushed() -> None:
    on = disk()
    log = filled(on, 10)
    log.flush(NOW_MS)
    flushed = log.log_end_offset
    for number in range(10):
        append(log, timestamp_ms=NOW_MS + number)
    on.lose_power()
    log = reopened(on, recovery_point=flushed, **SMALL)
    assert log.log_end_offset >= flushed
    assert offsets(log) == list(range(log.log_end_offset))


@pytest.mark.parametrize("seed", range(60))
def test_power_loss_with_any_unsynced_pages_keeps_what_was_flushed(seed: int) -> None:
    on = disk()
    log = new_log(on, **SMALL)
    flushed = 0
    for number in range(40):
        append(log, 1 + number % 3, size=40, timestamp_ms=NOW_MS + number)
        if number % 9 == seed % 9:
            log.flush(NOW_MS)
            flushed = log.flushed_end_offset
    written = log.log_end_offset
    on.lose_power(seed)
    log = reopened(on, recovery_point=flushed, **SMALL)
    assert flushed <= log.log_end_offset <= written
    assert offsets(log) == list(range(log.log_end_offset))
    first = files(on)
    assert offsets(reopened(on, recovery_point=flushed, **SMALL)) == offsets(log)
    assert files(on) == first


def test_partition_that_was_never_flushed_may_be_gone_after_a_power_loss() -> None:
    on = disk()
    append(new_log(on))
    on.lose_power()
    assert on.tree() == {}
    assert append(new_log(on)).base_offset == 0


def test_recovery_syncs_what_it_leaves() -> None:
    on = disk()
    log = filled(on)
    expected = offsets(log)
    log.flush(NOW_MS)
    for _ in range(5):
        append(log)
    crashed(on, log)
    log = reopened(on, **SMALL)
    end = log.log_end_offset
    assert end == len(expected) + 5
    on.lose_power()
    assert reopened(on, recovery_point=end, **SMALL).log_end_offset == end


def test_failed_sync_of_a_recovery_is_the_callers_to_see() -> None:
    on = disk()
    crashed(on, filled(on))
    on.fail("fdatasync", EIO)
    with pytest.raises(KafkaError, match="Input/output error"):
        reopened(on, **SMALL)


def test_topic_id_is_read_back_and_a_broken_one_is_unknown() -> None:
    on = disk()
    filled(on).close(NOW_MS)
    log = reopened(on, clean=True, **SMALL)
    assert log.topic_id == bytes(range(16))
    log.assign_topic_id(bytes(range(16)))
    with pytest.raises(KafkaError) as caught:
        log.assign_topic_id(bytes(range(1, 17)))
    assert caught.value.code is ErrorCode.INCONSISTENT_TOPIC_ID
    on.write_file(f"{DIRECTORY}/partition.metadata", b"version: 0\ntopic_id: ")
    log = reopened(on, clean=True, **SMALL)
    assert log.topic_id == bytes(16)
    log.assign_topic_id(bytes(range(16)))
    assert on.tree()[f"{DIRECTORY}/partition.metadata"] == (
        b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"
    )


@pytest.mark.parametrize("clean", [True, False])
def test_deleted_segments_that_a_power_loss_brings_back_cost_none_of_the_others(
    clean: bool,
) -> None:
    """Their names were not synced away: any of them may be back, with gaps between them."""
    on = disk()
    log = filled(on, 40)
    bases = [segment.base_offset for segment in log.segments]
    back = {path: on.tree()[path] for path in (LOG, f"{DIRECTORY}/{bases[2]:020d}.log")}
    log.flush(NOW_MS)
    log.increment_log_start_offset(bases[4] + 1, log.log_end_offset)
    log.delete_old_segments(NOW_MS, log.log_end_offset)
    assert log.segments.first.base_offset == bases[4]
    kept, end = offsets(log), log.log_end_offset
    log.close(NOW_MS, clean=clean)
    for _ in range(2):
        for path, content in back.items():
            on.write_file(path, content)
        log = Log.open(on, DIRECTORY, log.config, NOW_MS, log_start_offset=kept[0], clean=clean)
        assert (log.log_start_offset, log.log_end_offset) == (kept[0], end)
        assert [segment.base_offset for segment in log.segments] == bases[4:]
        assert offsets(log) == kept
        log.close(NOW_MS, clean=clean)


def test_gap_behind_a_deleted_segment_that_is_back_is_no_part_of_the_log() -> None:
    """All that was synced is deleted, and of what was not, only a later file's name is there."""
    on = disk()
    log = filled(on, 40)
    log.flush(NOW_MS)
    end = log.log_end_offset
    for number in range(20):
        append(log, 3, timestamp_ms=NOW_MS + number)
    bases = [segment.base_offset for segment in log.segments]
    first_unsynced = next(base for base in bases if base >= end)
    crashed(on, log)
    for base in bases[1:]:
        for suffix in (".log", ".index", ".timeindex"):
            if base != bases[-1]:
                on.remove(f"{DIRECTORY}/{base:020d}{suffix}")
    assert bases[-1] > first_unsynced
    for _ in range(2):
        log = Log.open(on, DIRECTORY, log.config, NOW_MS, recovery_point=end, log_start_offset=end)
        assert (log.log_start_offset, log.log_end_offset) == (end, end)
        crashed(on, log)


def test_file_whose_name_was_never_synced_ends_the_log() -> None:
    on = disk()
    log = filled(on)
    crashed(on, log)
    paths = sorted(path for path in files(on) if path.endswith(".log"))
    base = int(paths[2][-24:-4])
    on.unlink(paths[2])
    log = reopened(on, recovery_point=0, **SMALL)
    assert log.log_end_offset == base
    assert offsets(log) == list(range(base))


def test_gap_in_a_compacted_log_is_no_damage() -> None:
    on = disk()
    log = filled(on, 20, cleanup_policy="compact", **SMALL)
    end = log.log_end_offset
    crashed(on, log)
    paths = sorted(path for path in files(on) if path.endswith(".log"))
    gone = range(int(paths[2][-24:-4]), int(paths[3][-24:-4]))
    on.unlink(paths[2])
    log = reopened(on, recovery_point=0, cleanup_policy="compact", **SMALL)
    assert log.log_end_offset == end
    assert offsets(log) == [offset for offset in range(end) if offset not in gone]


def test_cut_bytes_that_come_back_under_a_newer_segment_are_cut_again() -> None:
    on = disk()
    log = new_log(on)
    for _ in range(3):
        append(log)
    log.flush(NOW_MS)
    log.truncate_to(1, NOW_MS)
    log.roll(NOW_MS)
    append(log, 1, size=99)
    point = log.recovery_point
    assert point == 0
    for path in (LOG, f"{DIRECTORY}/00000000000000000001.log"):
        descriptor = on.open(path, 2)
        on.fsync(descriptor) if path != LOG else None
        on.close(descriptor)
    on.sync_directory(DIRECTORY)
    on.lose_power()
    log = reopened(on, recovery_point=point)
    assert offsets(log) == [0, 1]
    assert [segment.base_offset for segment in log.segments] == [0, 1]


def test_garbage_at_the_end_of_a_middle_segment_loses_no_later_one() -> None:
    on = disk()
    log = filled(on)
    expected = offsets(log)
    crashed(on, log)
    first = LOG
    overwrite(on, first, len(on.tree()[first]), b"\x00" * 50)
    assert offsets(reopened(on, **SMALL)) == expected


def test_index_of_a_rolled_segment_is_rebuilt_unless_it_was_synced() -> None:
    on = disk()
    log = filled(on, 6, segment_bytes=1 << 20, index_interval_bytes=0)
    log.flush(NOW_MS)
    log.roll(NOW_MS)
    assert log.flushed_end_offset == log.log_end_offset
    assert log.recovery_point == 0
    log.flush(NOW_MS)
    assert log.recovery_point == log.log_end_offset


def test_log_that_crashed_before_its_first_flush_is_durable_after_recovery() -> None:
    on = disk()
    log = new_log(on)
    append(log, 2)
    crashed(on, log)
    assert reopened(on).flushed_end_offset == 2
    on.lose_power()
    assert offsets(reopened(on, recovery_point=2)) == [0, 1]


def test_recovering_a_log_whose_records_are_all_deleted_twice_leaves_the_same_epochs() -> None:
    on = disk()
    log = new_log(on, **SMALL)
    for _ in range(3):
        append(log)
    log.flush(NOW_MS)
    log.increment_log_start_offset(3, 3)
    log.roll(NOW_MS)
    log.delete_old_segments(NOW_MS, 3)
    held = []
    for _ in range(3):
        crashed(on, log)
        log = Log.open(on, DIRECTORY, TopicConfig.of(**SMALL), NOW_MS, log_start_offset=3)
        assert (log.log_start_offset, log.log_end_offset) == (3, 3)
        held.append(files(on))
    assert held[0] == held[1] == held[2]
