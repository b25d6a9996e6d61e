"""A log that is out of service while its directory is stopped cleanly: the stop does not speak for it."""

from __future__ import annotations

import json

import pytest

from ottla.log.directories import LogDirectories
from ottla.log.directory import LogDirectory
from ottla.log.salvage import salvage
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.log_directories import CONFIG, PATH, checkpoint, create, opened
from tests.unit.log.samples import NOW_MS, append, idempotent, offsets

MARK = f"{PATH}/orders-0/quarantined"
CLEAN = f"{PATH}/.kafka_cleanshutdown"


def stop_and_start(on: SimulatedDisk, directory: LogDirectory) -> LogDirectory:
    directory.close(NOW_MS)
    assert on.exists(CLEAN)
    return opened(on)


def with_torn_middle(on: SimulatedDisk) -> LogDirectory:
    """Two logs; the third batch of orders-0, never synced, is damaged, and whole segments lie behind it."""
    directory = opened(on)
    log = create(directory, records=2)
    log.flush(NOW_MS)
    checkpoint(directory)
    torn_at = log.size_bytes
    for _ in range(12):
        append(log)
    assert len(log.segments) > 2
    on.file(f"{PATH}/orders-0/00000000000000000000.log").write_at(b"\xff", torn_at + 70)
    create(directory, 1, records=3)
    return directory


def test_a_log_that_was_quarantined_while_the_broker_ran_is_recovered_when_its_mark_is_gone() -> (
    None
):
    on = SimulatedDisk()
    directory = with_torn_middle(on)
    directory.logs["orders", 0].quarantine("somebody said so")
    directory.close(NOW_MS)
    on.unlink(MARK)
    directory = opened(on)
    assert directory.had_clean_shutdown
    assert offsets(directory.logs["orders", 0]) == [0, 1]
    assert offsets(directory.logs["orders", 1]) == [0, 1, 2]


def test_a_log_that_was_left_out_for_several_lives_is_recovered_when_its_mark_is_gone() -> None:
    on = SimulatedDisk()
    directory = with_torn_middle(on)
    directory.logs["orders", 0].quarantine("somebody said so")
    directory.close(NOW_MS, clean=False)
    directory = opened(on)
    for _ in range(2):
        assert ("orders", 0) in directory.quarantined
        directory = stop_and_start(on, directory)
    directory.close(NOW_MS)
    on.unlink(MARK)
    assert offsets(opened(on).logs["orders", 0]) == [0, 1]


def test_a_mark_that_goes_while_the_broker_runs_makes_no_clean_stop_of_the_log() -> None:
    on = SimulatedDisk()
    directory = with_torn_middle(on)
    directory.logs["orders", 0].quarantine("somebody said so")
    directory = stop_and_start(on, directory)
    on.unlink(MARK)
    directory = stop_and_start(on, directory)
    assert offsets(directory.logs["orders", 0]) == [0, 1]


def test_a_log_that_was_not_closed_cleanly_knows_its_producers_when_its_mark_is_gone() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory)
    log.append_as_leader(idempotent(5, 0), 0, NOW_MS)
    log.append_as_leader(idempotent(5, 1), 0, NOW_MS)
    log.quarantine("somebody said so")
    directory.close(NOW_MS)
    on.unlink(MARK)
    log = opened(on).logs["orders", 0]
    again = log.append_as_leader(idempotent(5, 1), 0, NOW_MS)
    assert (again.base_offset, log.log_end_offset) == (1, 2)


def test_once_recovered_a_log_counts_as_closed_cleanly_again() -> None:
    on = SimulatedDisk()
    directory = with_torn_middle(on)
    directory.logs["orders", 0].quarantine("somebody said so")
    directory.close(NOW_MS)
    assert json.loads(on.tree()[CLEAN])["notClosed"] == ["orders-0"]
    on.unlink(MARK)
    opened(on).close(NOW_MS, broker_epoch=7)
    assert on.tree()[CLEAN] == b'{"version":0,"brokerEpoch":7}'


def test_what_was_checkpointed_of_a_log_is_kept_while_it_is_left_out() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=6)
    log.increment_log_start_offset(3, 6)
    log.mark_clean(4)
    directory.write_high_watermarks({("orders", 0): 5})
    log.flush(NOW_MS)
    log.quarantine("somebody said so")
    for _ in range(2):
        directory = stop_and_start(on, directory)
        directory.write_high_watermarks({})
        checkpoint(directory)
    tree = on.tree()
    for name, offset in (("recovery-point", 6), ("log-start", 3), ("replication", 5)):
        assert tree[f"{PATH}/{name}-offset-checkpoint"] == b"0\n1\norders 0 %d\n" % offset
    assert tree[f"{PATH}/cleaner-offset-checkpoint"] == b"0\n1\norders 0 4\n"
    directory.close(NOW_MS)
    on.unlink(MARK)
    log = opened(on).logs["orders", 0]
    assert (log.log_start_offset, log.clean_end_offset, log.log_end_offset) == (3, 4, 6)


def test_damage_that_is_still_there_when_the_mark_is_gone_is_no_torn_tail() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=3)
    log.flush(NOW_MS)
    on.file(f"{PATH}/orders-0/00000000000000000000.log").write_at(b"\xff", 70)
    log.quarantine("somebody said so")
    directory = stop_and_start(on, directory)
    size = len(on.tree()[f"{PATH}/orders-0/00000000000000000000.log"])
    directory.close(NOW_MS)
    on.unlink(MARK)
    assert "damaged" in opened(on).quarantined.get(("orders", 0), "not at all")
    assert len(on.tree()[f"{PATH}/orders-0/00000000000000000000.log"]) == size


def test_a_deleted_topic_takes_what_was_kept_of_its_left_out_log_with_it() -> None:
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory, records=6)
    log.increment_log_start_offset(3, 6)
    log.quarantine("somebody said so")
    directory = stop_and_start(on, directory)
    directory.delete("orders", 0, NOW_MS)
    assert directory.has_stale_checkpoints
    checkpoint(directory)
    append(create(directory))
    directory = stop_and_start(on, directory)
    log = directory.logs["orders", 0]
    assert (log.log_start_offset, log.log_end_offset) == (0, 1)


def test_a_directory_that_no_stop_has_closed_is_recovered() -> None:
    """Put there by somebody: a log that was set aside and got its name back, or a backup."""
    on = SimulatedDisk()
    directory = with_torn_middle(on)
    directory.set_aside("orders", 0)
    directory.close(NOW_MS)
    (stray,) = [entry.name for entry in on.entries(PATH) if entry.name.endswith("-stray")]
    on.rename(f"{PATH}/{stray}", f"{PATH}/orders-0")
    directory = opened(on)
    assert directory.had_clean_shutdown
    assert offsets(directory.logs["orders", 0]) == [0, 1]


@pytest.mark.parametrize("content", [b"\xff", b"[]", b'{"version":0,"brok', b'{"notClosed":7}'])
def test_a_clean_stop_of_which_it_is_unknown_what_it_closed_is_none(content: bytes) -> None:
    on = SimulatedDisk()
    directory = with_torn_middle(on)
    directory.logs["orders", 0].quarantine("somebody said so")
    directory.close(NOW_MS)
    on.unlink(MARK)
    on.write_file(CLEAN, content)
    directory = opened(on)
    assert not directory.had_clean_shutdown
    assert offsets(directory.logs["orders", 0]) == [0, 1]


def test_a_log_that_is_in_two_directories_is_recovered_when_one_of_them_is_taken_away() -> None:
    on = SimulatedDisk()
    paths = ["/data/a", "/data/b"]
    for path in paths:
        directory = opened(on, path)
        create(directory, records=2)
        directory.close(NOW_MS)
    on.write_file("/data/b/orders-0/quarantined", b"damaged\n")
    both = LogDirectories(paths, on)
    both.open()
    both.load(lambda topic: CONFIG, NOW_MS)
    assert ("orders", 0) in both.all[0].quarantined
    both.close(NOW_MS)
    assert json.loads(on.tree()["/data/a/.kafka_cleanshutdown"])["notClosed"] == ["orders-0"]
    assert on.tree()["/data/a/recovery-point-offset-checkpoint"] == b"0\n1\norders 0 2\n"


def test_a_salvaged_log_was_not_closed_cleanly() -> None:
    """Its producers are told by its batches, of which the salvage has rewritten some."""
    on = SimulatedDisk()
    directory = opened(on)
    log = create(directory)
    log.append_as_leader(idempotent(6, 0), 0, NOW_MS)
    log.append_as_leader(idempotent(5, 0), 0, NOW_MS)
    directory.close(NOW_MS)
    on.write_file(MARK, b"damaged\n")
    salvage(on, f"{PATH}/orders-0")
    assert json.loads(on.tree()[CLEAN])["notClosed"] == ["orders-0"]
    assert not on.exists(MARK)
    assert opened(on).logs["orders", 0].producers.producers.keys() == {5, 6}
