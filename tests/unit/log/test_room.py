"""Room ahead: a log that is synced for a little at a time ends in zeros while it is in use, and in none otherwise."""

from __future__ import annotations

import asyncio
import os
from errno import EFBIG, EIO
from typing import Any

import pytest

from ottla.errors import KafkaError
from ottla.log.dump import dump_log
from ottla.log.flusher import Durability, Flusher
from ottla.log.log import Log
from ottla.log.recovery import CorruptLog
from ottla.log.room import LITTLE_BYTES, ROOM_BYTES, SIZE_MAX, SYNCS_BEFORE, Room
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import DIRECTORY, NOW_MS, append, disk, new_log, offsets, reopened

LOG = f"{DIRECTORY}/00000000000000000000.log"


def append_and_sync(log: Log, times: int = 1, **options: Any) -> None:
    for _ in range(times):
        append(log, **options)
        flush = log.begin_flush(again=True)
        assert flush is not None
        flush.run()
        log.complete_flush(flush, NOW_MS)


def with_room(on: SimulatedDisk, **settings: Any) -> Log:
    """A log whose file ends behind its last batch."""
    log = new_log(on, **settings)
    append_and_sync(log, SYNCS_BEFORE + 2)
    assert len(on.tree()[LOG]) > log.size_bytes
    return log


def test_a_log_that_is_synced_for_a_little_again_and_again_has_room_ahead() -> None:
    on = disk()
    log = new_log(on)
    append_and_sync(log, SYNCS_BEFORE)
    assert len(on.tree()[LOG]) == log.size_bytes
    append_and_sync(log)
    size, made = log.size_bytes, len(on.tree()[LOG])
    assert made == size + ROOM_BYTES
    assert not any(on.tree()[LOG][size:])
    append_and_sync(log, 20)
    assert len(on.tree()[LOG]) == made
    assert offsets(log) == list(range(SYNCS_BEFORE + 21))


def test_room_is_made_anew_before_the_bytes_come_to_its_end() -> None:
    on = disk()
    log = with_room(on)
    while log.size_bytes < 3 * ROOM_BYTES:
        append_and_sync(log, size=LITTLE_BYTES // 2)
        assert len(on.tree()[LOG]) > log.size_bytes
    assert offsets(log) == list(range(log.log_end_offset))


def test_there_is_no_room_where_much_is_appended_between_syncs() -> None:
    on = disk()
    log = new_log(on)
    append_and_sync(log, 3 * SYNCS_BEFORE, size=LITTLE_BYTES)
    assert len(on.tree()[LOG]) == log.size_bytes


def test_a_flush_that_is_to_be_the_last_makes_no_room() -> None:
    on = disk()
    log = new_log(on)
    for _ in range(3 * SYNCS_BEFORE):
        append(log)
        log.flush(NOW_MS)
    assert len(on.tree()[LOG]) == log.size_bytes


@pytest.mark.parametrize(("durability", "has_room"), [("disk", True), ("os", False)])
def test_there_is_room_only_where_acknowledgements_wait_for_syncs(
    durability: str, has_room: bool
) -> None:
    on = disk()
    log = new_log(on)

    async def write() -> None:
        flusher = Flusher(on, durability=Durability(durability))
        flusher.attach(log)
        for _ in range(3 * SYNCS_BEFORE):
            append(log)
            await flusher.flush(log)
        await flusher.close()

    asyncio.run(write())
    assert (len(on.tree()[LOG]) > log.size_bytes) == has_room


def test_a_rolled_segment_has_no_room() -> None:
    on = disk()
    log = with_room(on)
    size = log.size_bytes
    log.roll(NOW_MS)
    assert len(on.tree()[LOG]) == size


def test_a_clean_stop_leaves_no_room_and_that_lasts() -> None:
    on = disk()
    log = with_room(on)
    size, end = log.size_bytes, log.log_end_offset
    log.close(NOW_MS)
    on.lose_power()
    assert len(on.tree()[LOG]) == size
    assert offsets(reopened(on, clean=True, recovery_point=end)) == list(range(end))


def test_a_start_after_a_kill_cuts_the_room_off_and_nothing_else() -> None:
    on = disk()
    log = with_room(on)
    size, end = log.size_bytes, log.log_end_offset
    log.close(NOW_MS, clean=False)
    log = reopened(on, recovery_point=end)
    assert (log.size_bytes, log.log_end_offset) == (size, end)
    assert len(on.tree()[LOG]) == size
    append(log)
    assert offsets(log) == list(range(end + 1))


def test_zeros_where_synced_records_were_are_damage_and_not_room() -> None:
    on = disk()
    log = with_room(on)
    end = log.log_end_offset
    log.close(NOW_MS, clean=False)
    file = on.file(LOG)
    file.write_at(bytes(60), log.size_bytes - 60)
    file.write_at(bytes(log.size_bytes // 2), log.size_bytes // 2)
    file.close()
    before = on.tree()[LOG]
    with pytest.raises(CorruptLog):
        reopened(on, recovery_point=end)
    assert on.tree()[LOG] == before


@pytest.mark.parametrize("seed", range(40))
def test_power_loss_with_any_unsynced_pages_keeps_what_was_synced_into_room(seed: int) -> None:
    on = disk()
    log = with_room(on)
    append_and_sync(log, seed * 7, size=40)
    flushed = log.flushed_end_offset
    for _ in range(5):
        append(log, size=40 + seed * 20)
    written = log.log_end_offset
    on.lose_power(seed)
    log = reopened(on, recovery_point=flushed)
    assert flushed <= log.log_end_offset <= written
    assert offsets(log) == list(range(log.log_end_offset))
    assert len(on.tree()[LOG]) == log.size_bytes


def test_a_log_that_is_cut_has_room_again() -> None:
    on = disk()
    log = with_room(on)
    log.truncate_to(4, NOW_MS)
    assert len(on.tree()[LOG]) == log.size_bytes
    append_and_sync(log, 3 * SYNCS_BEFORE)
    assert len(on.tree()[LOG]) > log.size_bytes
    assert offsets(log) == list(range(log.log_end_offset))


def test_a_write_that_fails_into_room_leaves_nothing() -> None:
    on = disk()
    log = with_room(on)
    size, end = log.size_bytes, log.log_end_offset
    on.fail("pwrite", EFBIG)
    with pytest.raises(KafkaError):
        append(log)
    assert (len(on.tree()[LOG]), log.log_end_offset) == (size, end)
    append_and_sync(log, 3 * SYNCS_BEFORE)
    assert offsets(log) == list(range(log.log_end_offset))


@pytest.mark.parametrize("error", [EFBIG, EIO])
def test_who_gets_no_room_syncs_without(error: int) -> None:
    on = disk()
    log = new_log(on)
    append_and_sync(log, SYNCS_BEFORE)
    on.fail("ftruncate", error)
    append_and_sync(log)
    assert log.flushed_end_offset == log.log_end_offset == SYNCS_BEFORE + 1
    assert len(on.tree()[LOG]) == log.size_bytes
    append_and_sync(log, SYNCS_BEFORE + 1)
    assert len(on.tree()[LOG]) > log.size_bytes


def test_no_file_has_room_behind_the_last_position_that_there_can_be() -> None:
    room = Room()
    size = SIZE_MAX - ROOM_BYTES - 50 * SYNCS_BEFORE
    ends = [room.wanted(size + 100 * number) for number in range(1, 2 * SYNCS_BEFORE)]
    assert max(ends) <= SIZE_MAX


def test_a_dump_of_a_log_in_use_ends_with_its_last_batch() -> None:
    on = disk()
    log = with_room(on)
    lines = list(dump_log(LOG, deep=False, contents=False, disk=on))
    assert [line["baseOffset"] for line in lines] == list(range(log.log_end_offset))
    descriptor = on.open(LOG, os.O_RDWR)
    on.pwrite(descriptor, b"\1", len(on.tree()[LOG]) - 1)
    on.close(descriptor)
    assert "error" in list(dump_log(LOG, deep=False, contents=False, disk=on))[-1]
