"""What a log directory knows of its last life: whether acknowledged records may be lost."""

from __future__ import annotations

from errno import ENOSPC

import pytest

from ottla import capabilities
from ottla.log.checkpoints import MetaProperties
from ottla.log.directory import LogDirectory
from ottla.log.distrust import note_failure
from ottla.log.flusher import Durability, Flusher
from ottla.log.last_life import LogsLife
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, disk

DISK, OS = Durability.DISK, Durability.OS


class Machine:
    """A machine with a disk; it can be booted again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk: SimulatedDisk = disk()
        self.boot: str | None = "1"
        monkeypatch.setattr(capabilities, "boot_id", lambda: self.boot)

    def start(self, durability: Durability, *, suspects_new: bool = False) -> LogDirectory:
        directory = LogDirectory(
            "/logs", self.disk, flusher=Flusher(self.disk, durability=durability)
        )
        directory.life.suspects_new = suspects_new
        directory.open()
        if directory.read_meta_properties() is None:
            directory.write_meta_properties(MetaProperties(1, "cluster"))
        directory.load(lambda topic: TopicConfig.of(), NOW_MS)
        return directory

    @staticmethod
    def stop(directory: LogDirectory, *, clean: bool) -> None:
        directory.close(NOW_MS, clean=clean)


@pytest.mark.parametrize(
    ("durability", "clean", "same_boot", "lost"),
    [
        (OS, False, False, True),
        (OS, False, True, False),
        (OS, True, False, False),
        (DISK, False, False, False),
        (DISK, False, True, False),
    ],
)
def test_records_may_be_lost_when_the_machine_went_down_amid_a_life_that_did_not_sync(
    monkeypatch: pytest.MonkeyPatch,
    durability: Durability,
    clean: bool,
    same_boot: bool,
    lost: bool,
) -> None:
    machine = Machine(monkeypatch)
    machine.stop(machine.start(durability), clean=clean)
    machine.boot = "1" if same_boot else "2"
    again = machine.start(DISK)
    assert (again.life.may_have_lost, again.life.has_lost) == (lost, lost)


def test_what_may_be_lost_is_said_until_the_cluster_has_heard_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.stop(machine.start(OS), clean=False)
    machine.boot = "2"
    machine.stop(machine.start(OS), clean=False)  # it was not told
    machine.stop(machine.start(DISK), clean=True)
    third = machine.start(DISK)
    assert third.life.may_have_lost
    third.life.forget()
    assert (third.life.may_have_lost, third.life.has_lost) == (False, True)
    machine.stop(third, clean=False)
    assert not machine.start(OS).life.may_have_lost


def test_of_a_life_that_nothing_is_known_of_the_worst_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.stop(machine.start(DISK), clean=False)
    machine.disk.write_file("/logs/last-life", b"\x00\x00")
    assert machine.start(DISK).life.may_have_lost


def test_a_machine_that_does_not_tell_its_boots_may_have_been_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    machine.boot = None
    machine.stop(machine.start(OS), clean=False)
    assert machine.start(OS).life.may_have_lost


def test_a_disk_that_failed_to_write_back_has_lost_what_was_acknowledged_from_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for durability, lost in ((OS, True), (DISK, False)):
        machine = Machine(monkeypatch)
        machine.stop(machine.start(durability), clean=False)
        note_failure(machine.disk, "/logs", OSError("failed"))
        assert machine.start(durability).life.may_have_lost is lost


@pytest.mark.parametrize("suspected", [False, True])
def test_a_new_directory_of_a_cluster_may_be_one_that_was_wiped(
    monkeypatch: pytest.MonkeyPatch, suspected: bool
) -> None:
    machine = Machine(monkeypatch)
    first = machine.start(DISK, suspects_new=suspected)
    assert first.life.may_have_lost is suspected
    machine.stop(first, clean=False)
    assert machine.start(DISK).life.may_have_lost is suspected


def test_a_full_disk_keeps_the_careful_words(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.stop(machine.start(OS), clean=True)
    life = LogsLife(machine.disk, "/logs")
    machine.disk.fail("pwrite", ENOSPC, times=9)
    life.begin(Flusher(machine.disk, durability=DISK), is_known=True, was_clean=True)
    machine.boot = "2"
    again = LogsLife(machine.disk, "/logs")
    again.begin(None, is_known=True, was_clean=False)
    assert again.may_have_lost
