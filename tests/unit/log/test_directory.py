"""A log directory from its lock to its clean stop."""

from __future__ import annotations

import os
import subprocess
import sys
from errno import EIO
from pathlib import Path

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.checkpoints import CorruptCheckpoint, MetaProperties
from ottla.log.directory import DirectoryInUse, LogDirectory
from ottla.log.log import Log
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.log_directories import (
    CONFIG,
    PATH,
    bounds,
    checkpoint,
    create,
    opened,
    trimmed,
)
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append, batch, idempotent, offsets


def abandoned(directory: LogDirectory) -> None:
    """As if the process had died."""
    directory.close(NOW_MS, clean=False)


def test_clean_stop_and_start() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    assert not directory.had_clean_shutdown
    for partition in range(3):
        create(directory, partition, records=partition * 4)
    directory.close(NOW_MS, broker_epoch=25)
    tree = on.tree()
    assert tree[f"{PATH}/.kafka_cleanshutdown"] == b'{"version":0,"brokerEpoch":25}'
    assert tree[f"{PATH}/recovery-point-offset-checkpoint"] == (
        b"0\n3\norders 0 0\norders 1 4\norders 2 8\n"
    )
    on.lose_power()
    directory = opened(on)
    assert directory.had_clean_shutdown
    assert directory.last_broker_epoch == 25
    assert {key: log.log_end_offset for key, log in directory.logs.items()} == {
        ("orders", 1): 4,
        ("orders", 2): 8,
    }
    assert f"{PATH}/.kafka_cleanshutdown" not in on.tree()
    directory.close(NOW_MS)


def test_crash_while_loading_is_no_clean_stop() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=2)
    directory.close(NOW_MS)
    opened(on)
    on.lose_power()
    assert not opened(on).had_clean_shutdown


def test_crash_recovers_from_the_checkpointed_point() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=5)
    log.flush(NOW_MS)
    directory.write_recovery_points(directory.recovery_points())
    append(log, 3)
    abandoned(directory)
    directory = opened(on)
    assert offsets(directory.logs["orders", 0]) == list(range(8))
    directory.close(NOW_MS)


def test_directory_is_open_once_at_a_time(tmp_path: Path) -> None:
    first = LogDirectory(str(tmp_path / "logs"))
    first.open()
    with pytest.raises(DirectoryInUse):
        LogDirectory(str(tmp_path / "logs")).open()
    first.close(NOW_MS)
    second = LogDirectory(str(tmp_path / "logs"))
    second.open()
    second.close(NOW_MS)


def test_directory_of_another_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "logs"
    program = (
        "import sys; from ottla.log.directory import LogDirectory;"
        "LogDirectory(sys.argv[1]).open(); print('open', flush=True); sys.stdin.read()"
    )
    source = str(Path(__file__).parents[3] / "src")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(DirectoryInUse, match=f"in use by process {other.pid} on "):
            LogDirectory(str(path)).open()
        other.communicate(b"")
    ours = LogDirectory(str(path))
    ours.open()
    ours.close(NOW_MS)


def test_unreadable_checkpoints_count_as_empty() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=5)
    directory.close(NOW_MS)
    for name in ("recovery-point", "log-start", "replication"):
        on.write_file(f"{PATH}/{name}-offset-checkpoint", b"garbage\xff")
    on.unlink(f"{PATH}/.kafka_cleanshutdown")
    directory = opened(on)
    assert offsets(directory.logs["orders", 0]) == list(range(5))
    assert directory.high_watermarks == {}


def test_high_watermarks_come_back() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=5)
    directory.write_high_watermarks({("orders", 0): 4})
    directory.close(NOW_MS)
    assert opened(on).high_watermarks == {("orders", 0): 4}


def test_log_start_comes_back() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=5)
    log.increment_log_start_offset(3, 5)
    directory.close(NOW_MS)
    assert opened(on).logs["orders", 0].log_start_offset == 3


def test_a_log_whose_starts_checkpoint_is_lost_starts_with_its_first_segment() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = trimmed(directory)
    log.delete_old_segments(NOW_MS, 12)
    first = log.segments.first.base_offset
    assert first > 0
    directory.close(NOW_MS)
    on.write_file(f"{PATH}/log-start-offset-checkpoint", b"garbage")
    assert bounds(on) == (first, 12)


def test_log_start_survives_a_power_loss_that_brings_deleted_segments_back() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = trimmed(directory)
    log.delete_old_segments(NOW_MS, 12)
    start = log.log_start_offset
    directory.write_log_starts(directory.log_starts())
    on.lose_power()
    assert opened(on).logs["orders", 0].log_start_offset == start


def test_damaged_partition_is_left_out_and_the_others_are_served() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    for partition in range(2):
        create(directory, partition, records=3)
    directory.close(NOW_MS)
    on.unlink(f"{PATH}/.kafka_cleanshutdown")
    file = on.file(f"{PATH}/orders-0/00000000000000000000.log")
    file.write_at(b"\xff", 70)
    directory = opened(on)
    assert list(directory.logs) == [("orders", 1)]
    assert "damaged" in directory.quarantined["orders", 0]
    with pytest.raises(KafkaError) as caught:
        create(directory, 0)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    directory.close(NOW_MS)
    assert ("orders", 0) in opened(on).quarantined


def test_a_deleted_topic_frees_the_name_of_its_damaged_partition() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=3)
    directory.close(NOW_MS)
    on.unlink(f"{PATH}/.kafka_cleanshutdown")
    on.file(f"{PATH}/orders-0/00000000000000000000.log").write_at(b"\xff", 70)
    directory = opened(on)
    assert ("orders", 0) in directory.quarantined
    directory.delete("orders", 0, NOW_MS)
    assert create(directory, records=2).log_end_offset == 2
    (path,) = directory.trash.take_due(NOW_MS)
    assert path.endswith("-delete")
    directory.close(NOW_MS)
    assert not opened(on).quarantined


def test_deleted_partition_is_renamed_and_removed_later() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=3)
    read = log.read(0, 1000, 3)
    directory.delete("orders", 0, NOW_MS)
    assert directory.get("orders", 0) is None
    assert next(entry.name for entry in on.entries(PATH) if entry.is_directory).endswith("-delete")
    assert len(read.regions[0].read()) == read.size_bytes
    read.regions[0].close()
    assert directory.trash.take_due(NOW_MS + 999) == []
    directory.remove_trash(directory.trash.take_due(NOW_MS + 1000))
    assert not [entry for entry in on.entries(PATH) if entry.is_directory]
    again = create(directory)
    assert append(again).base_offset == 0


def test_deletion_is_finished_by_the_next_start() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=3)
    directory.delete("orders", 0, NOW_MS)
    abandoned(directory)
    directory = opened(on)
    assert directory.logs == {}
    directory.remove_trash(directory.trash.take_due(NOW_MS))
    assert not [entry for entry in on.entries(PATH) if entry.is_directory]


def test_empty_partition_is_deleted_without_a_trace() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory)
    directory.delete("orders", 0, NOW_MS)
    directory.delete("orders", 0, NOW_MS)
    assert len(directory.trash) == 0


def test_partition_set_aside_keeps_its_files() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=3)
    directory.set_aside("orders", 0)
    assert directory.get("orders", 0) is None
    directory.close(NOW_MS)
    directory = opened(on)
    assert directory.logs == {}
    assert [path for path in on.tree() if "-stray/" in path and path.endswith(".log")]


def test_foreign_directories_are_left_alone() -> None:
    on = SimulatedDisk()
    opened(on).close(NOW_MS)
    for name in ("lost+found", "notes", "orders-0.0123-future"):
        on.mkdir(f"{PATH}/{name}")
        on.write_file(f"{PATH}/{name}/file", b"x")
    directory = opened(on)
    assert directory.logs == {}
    assert len([path for path in on.tree() if path.endswith("/file")]) == 3


def test_meta_properties_tell_the_owner() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    assert directory.read_meta_properties() is None
    directory.write_meta_properties(MetaProperties(7, "cluster"))
    directory.close(NOW_MS)
    on.lose_power()
    directory = opened(on)
    assert directory.read_meta_properties() == (7, "cluster")
    on.write_file(f"{PATH}/meta.properties", b"broker.id=x")
    with pytest.raises(CorruptCheckpoint):
        directory.read_meta_properties()


def test_failed_directory_is_offline_and_not_marked_clean() -> None:
    on = SimulatedDisk()
    told: list[str] = []
    directory = opened(on, on_offline=lambda path, error: told.append(path))
    logs = [create(directory, partition, records=2) for partition in range(2)]
    on.fail("fdatasync", EIO)
    with pytest.raises(KafkaError):
        logs[0].flush(NOW_MS)
    assert directory.offline is not None
    for log in logs:
        with pytest.raises(KafkaError):
            append(log)
    with pytest.raises(KafkaError):
        create(directory, 5)
    with pytest.raises(KafkaError):
        checkpoint(directory)
    directory.close(NOW_MS)
    assert f"{PATH}/.kafka_cleanshutdown" not in on.tree()
    assert told == [PATH]


def test_failed_sync_at_the_stop_is_no_clean_stop() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=2)
    on.fail("fdatasync", EIO)
    directory.close(NOW_MS)
    assert f"{PATH}/.kafka_cleanshutdown" not in on.tree()


def test_unreadable_directory_goes_offline() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=2)
    abandoned(directory)
    directory = LogDirectory(PATH, on)
    directory.open()
    on.fail("pread", EIO, path="orders-0")
    with pytest.raises(OSError, match="Input/output"):
        directory.load(lambda topic: CONFIG, NOW_MS)
    assert directory.offline is not None


def test_compacted_log_loses_what_lies_before_its_start_and_nothing_by_age() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    config = TopicConfig.of(segment_bytes=500, cleanup_policy="compact", retention_ms=1)
    log = directory.create("a", 0, TOPIC_ID, config, NOW_MS)
    for _ in range(12):
        append(log)
    log.increment_log_start_offset(8, log.log_end_offset)
    assert log.delete_old_segments(NOW_MS + 5000, log.log_end_offset)
    assert 0 < log.segments.first.base_offset <= 8
    assert log.log_start_offset == 8


def test_clean_end_is_kept_over_restarts_and_not_for_another_log_of_the_name() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=6)
    log.mark_clean(4)
    directory.write_clean_ends(directory.clean_ends())
    assert on.tree()[f"{PATH}/cleaner-offset-checkpoint"] == b"0\n1\norders 0 4\n"
    directory.close(NOW_MS)
    directory = opened(on)
    assert directory.logs["orders", 0].clean_end_offset == 4
    directory.delete("orders", 0, NOW_MS)
    assert directory.has_stale_checkpoints
    directory.write_checkpoints(directory.take_checkpoints())
    create(directory, records=6)
    abandoned(directory)
    assert opened(on).logs["orders", 0].clean_end_offset == 0


def test_cleaners_checkpoint_is_lowered_before_a_log_is_cut() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=6)
    log.flush(NOW_MS)
    log.mark_clean(5)
    directory.write_clean_ends(directory.clean_ends())
    directory.lower_recovery_points({("orders", 0): 3})
    log.truncate_to(3, NOW_MS)
    assert log.clean_end_offset == 3
    for _ in range(3):
        append(log)
    abandoned(directory)
    on.lose_power()
    assert opened(on).logs["orders", 0].clean_end_offset <= 3


def test_overdue_flushes_are_asked_for() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = directory.create("a", 0, TOPIC_ID, TopicConfig.of(flush_ms=1000), NOW_MS)
    wanted: list[Log] = []
    log.on_flush_wanted = wanted.append
    append(log)
    directory.want_overdue_flushes(NOW_MS + 999)
    assert wanted == []
    directory.want_overdue_flushes(NOW_MS + 1000)
    assert wanted == [log]
    log.flush(NOW_MS + 1000)
    directory.want_overdue_flushes(NOW_MS + 9999)
    assert wanted == [log]


def test_silent_producers_are_forgotten() -> None:
    directory = opened(SimulatedDisk())
    log = create(directory)
    log.append_as_leader(idempotent(5, 0), 0, NOW_MS)
    assert directory.remove_expired_producers(NOW_MS + 999, 1000) == 0
    assert directory.remove_expired_producers(NOW_MS + 1000, 1000) == 1


def test_recovery_point_is_lowered_before_a_cut_and_stays_so_until_it() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=12)
    log.flush(NOW_MS)
    path = f"{PATH}/recovery-point-offset-checkpoint"
    directory.write_recovery_points(directory.recovery_points())
    assert on.tree()[path] == b"0\n1\norders 0 12\n"
    stale = directory.recovery_points()
    bases = [segment.base_offset for segment in log.segments]
    cut = bases[1]
    lowered = b"0\n1\norders 0 %d\n" % cut
    directory.lower_recovery_points({("orders", 0): cut + 1})
    assert on.tree()[path] == lowered
    directory.write_recovery_points(stale)
    assert on.tree()[path] == lowered
    log.truncate_to(cut + 1, NOW_MS)
    directory.write_recovery_points(directory.recovery_points())
    assert on.tree()[path] == lowered  # until a flush the old bytes may come back
    append(log)
    log.flush(NOW_MS)
    directory.write_recovery_points(directory.recovery_points())
    assert on.tree()[path] == b"0\n1\norders 0 %d\n" % (cut + 2)


def test_many_logs_close_with_one_sync_of_the_file_system() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    for partition in range(300):
        log = directory.create("t", partition, TOPIC_ID, CONFIG, NOW_MS)
        log.append_as_leader(batch(), 0, NOW_MS)
    before = on.calls.get("fdatasync", 0)
    directory.close(NOW_MS)
    assert on.calls["syncfs"] == 2
    assert on.calls.get("fdatasync", 0) == before
    on.lose_power()
    directory = opened(on)
    assert directory.had_clean_shutdown
    assert len(directory.logs) == 300
    assert all(log.log_end_offset == 1 for log in directory.logs.values())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"broker.id=x\ncluster.id=c\n"])
def test_damaged_meta_properties_are_named_by_their_path(content: bytes) -> None:
    on = SimulatedDisk()
    directory = opened(on)
    on.write_file(f"{PATH}/meta.properties", content)
    with pytest.raises(CorruptCheckpoint, match=f"{PATH}/meta.properties is damaged: "):
        directory.read_meta_properties()


def test_a_topic_made_again_starts_at_0_whatever_was_checkpointed_of_the_old_one() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    trimmed(directory)
    checkpoint(directory)
    directory.delete("orders", 0, NOW_MS)
    assert directory.has_stale_checkpoints
    checkpoint(directory)
    append(create(directory))
    directory.logs["orders", 0].flush(NOW_MS)
    append(directory.logs["orders", 0])  # torn by the loss of power, or gone
    on.lose_power()
    assert bounds(on) == (0, 1)


def test_a_deletion_that_a_crash_cut_short_leaves_nothing_to_a_topic_made_again() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    trimmed(directory)
    checkpoint(directory)
    directory.delete("orders", 0, NOW_MS)
    on.sync_directory(PATH)
    on.lose_power()
    directory = opened(on)
    append(create(directory))
    directory.logs["orders", 0].flush(NOW_MS)
    on.lose_power()
    assert bounds(on) == (0, 1)


def test_checkpoints_are_stale_only_while_they_name_what_is_gone() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    create(directory, records=2).flush(NOW_MS)
    directory.delete("orders", 0, NOW_MS)
    assert not directory.has_stale_checkpoints
    create(directory, records=2).flush(NOW_MS)
    older = directory.take_checkpoints()
    checkpoint(directory)
    directory.delete("orders", 0, NOW_MS)
    assert directory.has_stale_checkpoints
    checkpoint(directory)
    assert not directory.has_stale_checkpoints
    directory.write_checkpoints(older)  # a thread that was late
    assert on.tree()[f"{PATH}/recovery-point-offset-checkpoint"] == b"0\n0\n"


def test_a_topic_whose_name_another_log_had_starts_at_0() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    trimmed(directory)
    checkpoint(directory)
    directory.set_aside("orders", 0)
    assert directory.has_stale_checkpoints
    checkpoint(directory)
    append(create(directory))
    directory.logs["orders", 0].flush(NOW_MS)
    on.lose_power()
    assert bounds(on) == (0, 1)


def test_a_promised_log_start_survives_a_power_loss_and_an_older_checkpoint() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=12)
    log.flush(NOW_MS)
    older = directory.log_starts()
    directory.promise_log_start(log, 10)
    directory.write_log_starts(directory.log_starts())
    directory.write_log_starts(older)  # a thread that was late
    assert log.log_start_offset == 0
    on.lose_power()
    assert opened(on).logs["orders", 0].log_start_offset == 10


def test_a_promise_ends_with_its_log() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=2)
    directory.promise_log_start(log, 2)
    directory.delete("orders", 0, NOW_MS)
    create(directory)
    assert directory.log_starts().offsets == {}


def test_what_a_failed_sync_left_in_the_cache_is_believed_by_no_later_life() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=3)
    log.flush(NOW_MS)
    append(log)
    on.fail("fdatasync", EIO)
    with pytest.raises(KafkaError):
        log.flush(NOW_MS)
    abandoned(directory)
    directory = opened(on)
    assert offsets(directory.logs["orders", 0]) == [0, 1, 2]
    assert f"{PATH}/sync-failed" not in on.tree()
    assert append(directory.logs["orders", 0]).base_offset == 3
    directory.logs["orders", 0].flush(NOW_MS)
    on.lose_power()
    assert offsets(opened(on).logs["orders", 0]) == [0, 1, 2, 3]


def test_a_failure_that_shows_only_when_it_is_looked_for_is_heeded_with_the_others() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=3)
    on.fail("fdatasync", EIO)
    with pytest.raises(KafkaError):
        log.flush(NOW_MS)
    abandoned(directory)
    on.fail("fsync", EIO, path="/orders-0/")
    directory = opened(on)
    assert offsets(directory.logs["orders", 0]) == []
    on.lose_power()
    assert offsets(opened(on).logs["orders", 0]) == []


def test_the_lock_is_held_after_a_failure_was_heeded(tmp_path: Path) -> None:
    directory = LogDirectory(str(tmp_path))
    directory.open()
    directory.health.fail(OSError(EIO, "planted"))
    abandoned(directory)
    assert (tmp_path / "sync-failed").exists()
    directory = LogDirectory(str(tmp_path))
    directory.open()
    try:
        assert not (tmp_path / "sync-failed").exists()
        attempt = (
            "import fcntl, sys\n"
            "with open(sys.argv[1], 'r+') as lock:\n"
            "    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)"
        )
        other = subprocess.run(
            [sys.executable, "-c", attempt, str(tmp_path / ".lock")], capture_output=True
        )
        assert b"BlockingIOError" in other.stderr
    finally:
        abandoned(directory)


def test_a_checkpoint_that_was_taken_before_a_deletion_and_is_not_written_yet_is_stale() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=12)
    log.flush(NOW_MS)
    directory.promise_log_start(log, 10)
    taken = directory.log_starts()  # its thread has not begun
    directory.delete("orders", 0, NOW_MS)
    assert directory.has_stale_checkpoints
    checkpoint(directory)
    directory.write_log_starts(taken)
    append(create(directory))
    directory.logs["orders", 0].flush(NOW_MS)
    on.lose_power()
    assert bounds(on) == (0, 1)
