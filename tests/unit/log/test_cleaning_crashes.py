"""A crash at every single call to the disk of a cleaning and its swaps leaves the old log or the new one.

For each call: the process ends before it (and a write in its middle); then everything written is still there,
or what was not synced is lost, all of it or any part. What has to hold: the newest value of every key is what it
was, no record has another offset or value, nothing at or behind the dirty end is missing, and another
cleaning gets to the same log as one that nobody disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from ottla.errors import KafkaError
from ottla.log.log import Log
from ottla.records.builder import build_batch
from ottla.records.codec import Record
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk, Stopped
from tests.unit.log.compacting import clean, latest
from tests.unit.log.samples import DIRECTORY, NOW_MS, all_records, disk, new_log

SETTINGS = {
    "cleanup_policy": ("compact",),
    "delete_retention_ms": 1000,
    "segment_bytes": 420,
    "index_interval_bytes": 100,
    "file_delete_delay_ms": 0,
}
CONFIG = TopicConfig.of(**SETTINGS)
LATER_MS = NOW_MS + 10_000
SEEDS = (None, *range(3))


class Before(NamedTuple):
    """The log as it was when the cleaning began."""

    disk: SimulatedDisk
    log: Log
    records: list[Record]
    latest: dict[bytes | None, bytes | None]
    end_offset: int
    active_offset: int
    recovery_point: int


def prepared() -> Before:
    """A log of several segments, cleaned once, with tombstones whose time is over and a producer."""
    on = disk()
    log = new_log(on, **SETTINGS)

    def put(key: str, value: str | None, **options: int) -> None:
        batch = build_batch(
            [(NOW_MS, key.encode(), value and value.encode(), ())],
            **options,  # type: ignore[arg-type]
        )
        log.append_as_leader(batch, 0, NOW_MS)

    for number in range(8):
        put(f"k{number % 4}", "first " + "v" * 30)
    put("k1", None)
    put("k2", None, producer_id=9, producer_epoch=0, base_sequence=0)
    log.roll(NOW_MS)
    log.flush(NOW_MS)
    clean(on, log)
    for number in range(10):
        put(f"k{number % 3 + 2}", f"second {number} " + "v" * 20)
    put("k3", None)
    log.roll(NOW_MS)
    put("k0", "active")
    log.flush(NOW_MS)
    return Before(
        on,
        log,
        all_records(log),
        latest(log),
        log.log_end_offset,
        log.segments.active.base_offset,
        log.recovery_point,
    )


def reopened(before: Before, recovery_point: int) -> Log:
    return Log.open(
        before.disk, DIRECTORY, CONFIG, LATER_MS, clean=False, recovery_point=recovery_point
    )


def check(before: Before, log: Log) -> None:
    found = all_records(log)
    assert set(map(repr, found)) <= set(map(repr, before.records))
    assert log.log_end_offset == before.end_offset
    assert latest(log) == before.latest
    kept = [record for record in before.records if record.offset >= before.active_offset]
    assert [record for record in found if record.offset >= before.active_offset] == kept
    bases = [segment.base_offset for segment in log.segments]
    assert bases == sorted(set(bases))
    for segment, following in zip(list(log.segments), bases[1:], strict=False):
        for _, header in segment.headers():
            assert segment.base_offset <= header.base_offset
            assert header.last_offset < following
    assert log.producers.producers[9].last_sequence == 0


def undisturbed() -> list[Record]:
    before = prepared()
    clean(before.disk, before.log, LATER_MS)
    check(before, before.log)
    return all_records(before.log)


def crashes() -> Iterator[tuple[int, Before]]:
    """A cleaning that was stopped at each of its calls in turn."""
    calls = 0
    while True:
        before = prepared()
        before.disk.stop_after(calls)
        try:
            clean(before.disk, before.log, LATER_MS)
        except Stopped:
            yield calls, before
        else:
            return
        calls += 1


def recovered(before: Before, after: Callable[[SimulatedDisk], None]) -> Log:
    after(before.disk)
    log = reopened(before, before.recovery_point)
    check(before, log)
    return log


@pytest.mark.parametrize("seed", SEEDS)
def test_power_loss_at_any_call_leaves_every_keys_newest_value(seed: int | None) -> None:
    final = undisturbed()
    count = 0
    for calls, before in crashes():
        recovered(before, lambda on: on.lose_power(seed))
        again = reopened(before, 0)
        check(before, again)
        clean(before.disk, again, LATER_MS)
        assert all_records(again) == final, f"stopped after {calls} calls"
        count += 1
    assert count > 40, "each call of several swaps"


def test_end_of_the_process_at_any_call_leaves_every_keys_newest_value() -> None:
    final = undisturbed()
    outcomes = set()
    for calls, before in crashes():
        log = recovered(before, SimulatedDisk.restart)
        outcomes.add(len(all_records(log)))
        clean(before.disk, log, LATER_MS)
        assert all_records(log) == final, f"stopped after {calls} calls"
        names = [path for path in before.disk.tree() if path.endswith((".cleaned", ".swap"))]
        assert not names
    assert {len(prepared().records), len(final)} <= outcomes, "the old log, and the new one"


@pytest.mark.parametrize("seed", [None, 1])
def test_crash_at_any_call_of_the_recovery_from_a_crash_changes_nothing(seed: int | None) -> None:
    for calls, before in crashes():
        if calls % 5:
            continue
        before.disk.restart()
        again = 0
        while True:
            before.disk.stop_after(again)
            try:
                log = reopened(before, 0)
            except Stopped:
                before.disk.lose_power(seed)
                again += 1
                continue
            before.disk.stop_after(1 << 30)
            check(before, log)
            break


def test_clean_end_is_believed_only_after_the_swaps_are_durable() -> None:
    """What a checkpoint written at the end of the cleaning says holds after a power loss right then."""
    before = prepared()
    clean(before.disk, before.log, LATER_MS)
    before.disk.lose_power()
    log = reopened(before, before.recovery_point)
    check(before, log)
    keys = [record.key for record in all_records(log) if record.offset < before.active_offset]
    assert len(keys) == len(set(keys))


def test_checks_find_a_swap_whose_names_are_not_synced() -> None:
    """A planted bug: with the directory never synced, some power loss takes a value with it."""
    for seed in range(20):
        for calls in range(45, 90, 3):
            before = prepared()
            before.disk.sync_directory = lambda path: None  # type: ignore[method-assign]
            before.disk.stop_after(calls)
            with suppress(Stopped):
                clean(before.disk, before.log, LATER_MS)
            del before.disk.sync_directory
            before.disk.lose_power(seed)
            try:
                check(before, reopened(before, before.recovery_point))
            except (AssertionError, KafkaError):
                return
    raise AssertionError("the checks find nothing")
