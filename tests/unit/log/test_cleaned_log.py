"""A swap, and who comes between its steps: cuts, retention, deletion, the stop, and a disk that says no."""

from __future__ import annotations

from collections.abc import Callable
from errno import EIO, ENOSPC

import pytest

from ottla.errors import KafkaError
from ottla.log.cleaned_log import PendingSwap
from ottla.log.compaction.cleaning import Cleaning
from ottla.log.compaction.job import (
    DISK,
    GONE,
    CleanedGroup,
    CleaningFailed,
    cleaned_files,
    cleaned_path,
)
from ottla.log.log import Log
from ottla.log.trash import Trash
from ottla.records.builder import build_batch
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.compacting import clean, job_of, latest
from tests.unit.log.samples import DIRECTORY, NOW_MS, all_records, disk, new_log, reopened

SETTINGS = {"cleanup_policy": ("compact",), "segment_bytes": 420, "file_delete_delay_ms": 0}


class Swapping:
    """A log, and the first cleaned group of it. Each step is as the cleaner takes it."""

    def __init__(self) -> None:
        self.disk = disk()
        self.log = new_log(self.disk, **SETTINGS)
        for number in range(24):
            value = b"%d " % number + b"v" * 30
            batch = build_batch([(NOW_MS, b"k%d" % (number % 3), value, ())])
            self.log.append_as_leader(batch, 0, NOW_MS)
        self.log.roll(NOW_MS)
        batch = build_batch([(NOW_MS, b"active", b"1", ())])
        self.log.append_as_leader(batch, 0, NOW_MS)
        self.log.flush(NOW_MS)
        self.latest = latest(self.log)
        self.before = len(all_records(self.log))
        group = next(Cleaning(job_of(self.log), self.disk, lambda size: None).run())
        assert isinstance(group, CleanedGroup)
        self.group = group
        self.swap: PendingSwap | None = None

    def prepare(self) -> None:
        self.swap = self.log.prepare_swap(self.group, NOW_MS)
        assert self.swap is not None
        self.disk.sync_directory(DIRECTORY)

    def exchange(self) -> bool:
        assert self.swap is not None
        exchanged = self.log.exchange_segments(self.swap, NOW_MS)
        self.disk.sync_directory(DIRECTORY)
        return exchanged

    def finish(self) -> None:
        assert self.swap is not None
        self.log.finish_swap(self.swap)

    def go_on(self) -> None:
        self.exchange()
        self.finish()

    def leftovers(self) -> list[str]:
        return [path for path in self.disk.tree() if path.endswith((".swap", ".cleaned"))]

    def check_restart(self) -> Log:
        """What a crash right now leaves."""
        self.log.flush(NOW_MS)
        self.disk.lose_power()
        return reopened(self.disk, **SETTINGS)


@pytest.fixture
def swapping() -> Swapping:
    return Swapping()


def prepared(one: Swapping) -> None:
    one.prepare()


def exchanged(one: Swapping) -> None:
    one.prepare()
    assert one.exchange()


STAGES = pytest.mark.parametrize("stage", [prepared, exchanged])
Stage = Callable[[Swapping], None]


def test_readers_see_the_old_segments_until_the_exchange_and_the_new_one_from_then_on(
    swapping: Swapping,
) -> None:
    read = swapping.log.read(0, 1 << 20, swapping.log.log_end_offset)
    swapping.prepare()
    assert len(all_records(swapping.log)) == swapping.before
    swapping.exchange()
    assert len(all_records(swapping.log)) < swapping.before
    assert latest(swapping.log) == swapping.latest
    swapping.finish()
    assert latest(swapping.log) == swapping.latest
    assert not swapping.leftovers()
    assert sum(len(region.read()) for region in read.regions), "a fetch that was under way"
    for region in read.regions:
        region.close()


@STAGES
def test_cut_of_the_end_amid_a_swap_leaves_a_log_without_a_swap(
    swapping: Swapping, stage: Stage
) -> None:
    stage(swapping)
    swapping.log.truncate_to(24, NOW_MS)
    assert not swapping.leftovers()
    del swapping.latest[b"active"]
    assert latest(swapping.log) == swapping.latest
    if stage is prepared:
        assert not swapping.exchange()
    swapping.finish()
    assert latest(swapping.check_restart()) == swapping.latest


@STAGES
def test_cut_of_everything_amid_a_swap_brings_nothing_back(
    swapping: Swapping, stage: Stage
) -> None:
    stage(swapping)
    swapping.log.truncate_fully_and_start_at(100, NOW_MS)
    swapping.finish()
    again = swapping.check_restart()
    assert (again.log_start_offset, again.log_end_offset) == (100, 100)


@STAGES
def test_retention_amid_a_swap_deletes_what_it_has_to(swapping: Swapping, stage: Stage) -> None:
    stage(swapping)
    log = swapping.log
    log.increment_log_start_offset(24, log.log_end_offset)
    assert log.delete_old_segments(NOW_MS, log.log_end_offset)
    assert not swapping.leftovers()
    swapping.finish()
    assert latest(log) == {b"active": b"1"}
    assert latest(swapping.check_restart()) == {b"active": b"1"}


@STAGES
def test_deletion_amid_a_swap_ends_it(swapping: Swapping, stage: Stage) -> None:
    stage(swapping)
    swapping.log.retire("0" * 32, "-delete")
    if stage is prepared:
        with pytest.raises(KafkaError, match="is deleted"):
            swapping.exchange()
    swapping.finish()


@STAGES
def test_clean_stop_amid_a_swap_leaves_nothing_to_finish(swapping: Swapping, stage: Stage) -> None:
    stage(swapping)
    swapping.log.close(NOW_MS)
    assert not swapping.leftovers()
    swapping.disk.lose_power()
    again = reopened(swapping.disk, clean=True, **SETTINGS)
    assert latest(again) == swapping.latest


def test_another_swap_of_the_same_segments_takes_the_first_one_back(swapping: Swapping) -> None:
    swapping.prepare()
    clean(swapping.disk, swapping.log)
    assert not swapping.exchange()
    assert latest(swapping.log) == swapping.latest
    assert not swapping.leftovers()


def test_append_and_roll_amid_a_swap_go_on(swapping: Swapping) -> None:
    for step in (swapping.prepare, swapping.exchange, swapping.finish):
        step()
        batch = build_batch([(NOW_MS, b"new", b"v" * 300, ())])
        swapping.log.append_as_leader(batch, 0, NOW_MS)
    swapping.latest[b"new"] = b"v" * 300
    assert latest(swapping.log) == swapping.latest
    assert latest(swapping.check_restart()) == swapping.latest


def test_no_room_for_the_new_names_fails_the_swap_and_nothing_else(swapping: Swapping) -> None:
    swapping.disk.fail("rename", ENOSPC, after=1)
    with pytest.raises(KafkaError, match="could not be renamed"):
        swapping.log.prepare_swap(swapping.group, NOW_MS)
    assert swapping.log.health.failure is None
    assert (
        Trash(swapping.disk).remove(cleaned_files(swapping.disk, DIRECTORY, swapping.group.token))
        == []
    )
    assert not swapping.leftovers()
    clean(swapping.disk, swapping.log)
    assert latest(swapping.log) == swapping.latest


@pytest.mark.parametrize("after", range(7))
def test_disk_that_fails_amid_the_exchange_takes_the_directory_offline_and_loses_nothing(
    swapping: Swapping, after: int
) -> None:
    swapping.prepare()
    swapping.disk.fail("rename", EIO, after=after)
    with pytest.raises(KafkaError):
        swapping.go_on()
    assert swapping.log.health.failure is not None
    swapping.disk.lose_power(after)
    assert latest(reopened(swapping.disk, **SETTINGS)) == swapping.latest


@pytest.mark.parametrize(("call", "error"), [("pwrite", ENOSPC), ("fsync", EIO), ("pread", EIO)])
def test_disk_that_fails_the_cleaning_is_told_of_with_its_number(call: str, error: int) -> None:
    one = Swapping()
    assert Trash(one.disk).remove(cleaned_files(one.disk, DIRECTORY, "t")) == []
    one.disk.fail(call, error, after=1, path="0.log")
    with pytest.raises(CleaningFailed) as failed:
        clean(one.disk, one.log)
    assert (failed.value.kind, failed.value.errno) == (DISK, error)
    one.disk.heal()
    assert Trash(one.disk).remove(cleaned_files(one.disk, DIRECTORY, "t")) == []
    assert not one.leftovers()
    assert latest(one.log) == one.latest


def test_segment_that_is_deleted_under_the_cleaner_is_told_of_as_gone() -> None:
    one = Swapping()
    job = job_of(one.log)
    one.log.retire("0" * 32, "-delete")
    with pytest.raises(CleaningFailed) as failed:
        list(Cleaning(job, one.disk, lambda size: None).run())
    assert failed.value.kind == GONE


def test_index_of_a_swap_whose_log_is_not_there_is_removed(swapping: Swapping) -> None:
    """A power loss may keep one new name and not the other; the index is not the old log's."""
    on: SimulatedDisk = swapping.disk
    assert Trash(on).remove(cleaned_files(on, DIRECTORY, "t")) == []
    on.write_file(f"{DIRECTORY}/{0:020d}.index.swap", b"\0" * 8)
    assert latest(swapping.check_restart()) == swapping.latest
    assert not swapping.leftovers()


def test_what_an_earlier_cleaning_has_left_undoes_no_swap_that_counts(swapping: Swapping) -> None:
    # A worker whose log was deleted and made again, or that was given up, writes where the next one swaps.
    path = cleaned_path(DIRECTORY, 0, ".log", "0badf00d")
    swapping.disk.write_file(path, b"half of it", sync=True)
    swapping.prepare()
    swapping.exchange()
    again = swapping.check_restart()
    assert again.segments.first.base_offset == 0
    assert latest(again) == swapping.latest
    assert swapping.leftovers() == []
