"""A log that lacks what was synced is known to, over any number of starts, until nobody counts on it."""

from __future__ import annotations

from errno import ENOSPC

import pytest

from ottla.errors import KafkaError
from ottla.log.checkpoints import MetaProperties
from ottla.log.directories import LogDirectories
from ottla.log.flusher import Durability, Flusher
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, TOPIC_ID, batch, disk

ORDERS = ("orders", 0)
LOG = "/logs/orders-0/00000000000000000000.log"
PATHS = ("/logs", "/more")


def start(on: SimulatedDisk, paths: tuple[str, ...] = PATHS) -> LogDirectories:
    for path in paths:
        on.make_directories(path)
    found = LogDirectories(paths, on, flusher=Flusher(on, durability=Durability.DISK))
    found.open()
    found.sign(MetaProperties(1, "cluster"))
    found.load(lambda topic: TopicConfig.of(), NOW_MS)
    return found


def stop(directories: LogDirectories, *, clean: bool = False) -> None:
    directories.close(NOW_MS, clean=clean)


def filled(on: SimulatedDisk, *, clean: bool) -> None:
    """Four records, synced and checkpointed."""
    first = start(on)
    log = first.at("/logs").create("orders", 0, TOPIC_ID, TopicConfig.of(), NOW_MS)  # type: ignore[union-attr]
    for _ in range(4):
        log.append_as_leader(bytearray(batch(1)), 1, NOW_MS)
    log.flush(NOW_MS)
    checkpoint(first)
    stop(first, clean=clean)


def checkpoint(directories: LogDirectories) -> None:
    for directory in directories:
        directory.write_checkpoints(directory.take_checkpoints())


def spoil(on: SimulatedDisk, how: str) -> None:
    if how == "shortened":
        content = on.read_file(LOG, 1 << 20)
        on.write_file(LOG, content[: len(content) // 4])
    elif how == "segment gone":
        on.remove(LOG)
    else:
        on.remove_tree("/logs/orders-0")


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("how", ["shortened", "segment gone", "directory gone"])
def test_a_log_that_lacks_what_was_synced_is_short_over_any_number_of_starts(
    how: str, clean: bool
) -> None:
    on = disk()
    filled(on, clean=clean)
    spoil(on, how)
    for stop_cleanly in (False, True, False):
        again = start(on)
        assert again.short == {ORDERS: 4}
        checkpoint(again)
        stop(again, clean=stop_cleanly)


def test_a_log_that_is_whole_or_torn_behind_what_was_synced_is_not_short() -> None:
    on = disk()
    filled(on, clean=False)
    content = on.read_file(LOG, 1 << 20)
    on.write_file(LOG, content + content[: len(content) // 8])
    again = start(on)
    assert again.short == {}
    assert again.get(*ORDERS).log_end_offset == 4  # type: ignore[union-attr]
    stop(again)


def test_a_log_that_nobody_counts_on_any_more_is_not_short_at_the_next_start() -> None:
    on = disk()
    filled(on, clean=False)
    spoil(on, "shortened")
    again = start(on)
    again.forget_short([ORDERS])
    assert again.short == {}
    again.save_short()
    stop(again)
    third = start(on)
    assert third.short == {}
    stop(third)


def test_a_short_log_that_has_come_as_far_again_is_not_short() -> None:
    on = disk()
    filled(on, clean=False)
    spoil(on, "shortened")
    again = start(on)
    log = again.get(*ORDERS)
    assert log is not None
    while log.log_end_offset < 4:
        log.append_as_leader(bytearray(batch(1)), 2, NOW_MS)
    log.flush(NOW_MS)
    stop(again)
    third = start(on)
    assert third.short == {}
    stop(third)


def test_what_was_synced_is_not_forgotten_while_there_is_no_room_to_note_it() -> None:
    on = disk()
    filled(on, clean=False)
    spoil(on, "shortened")
    on.fail("pwrite", ENOSPC, times=1)
    again = start(on)
    assert again.short == {ORDERS: 4}
    on.fail("pwrite", ENOSPC, times=1)
    with pytest.raises(KafkaError):
        checkpoint(again)
    stop(again)
    third = start(on)
    assert third.short == {ORDERS: 4}
    stop(third)


def test_a_log_that_moved_to_another_directory_lacks_nothing() -> None:
    on = disk()
    filled(on, clean=False)
    on.make_directories("/more")
    on.rename("/logs/orders-0", "/more/orders-0")
    again = start(on)
    assert again.short == {}
    assert again.get(*ORDERS).log_end_offset == 4  # type: ignore[union-attr]
    stop(again)


def test_what_may_lie_in_a_directory_that_is_offline_is_short_once_that_is_out_of_use() -> None:
    on = disk()
    filled(on, clean=False)
    spoil(on, "directory gone")
    again = start(on)
    stop(again)
    both = LogDirectories(PATHS, on, flusher=Flusher(on, durability=Durability.DISK))
    both.open()
    both.at("/more").health.fail(OSError("broken"))  # type: ignore[union-attr]
    both.load(lambda topic: TopicConfig.of(), NOW_MS)
    assert both.short == {}
    stop(both)
    alone = start(on, ("/logs",))
    assert alone.short == {ORDERS: 4}
    stop(alone)
