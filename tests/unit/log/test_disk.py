"""Files of the real disk: descriptors within their bound, pins, regions, locks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EAGAIN, EIO, EMFILE, EOPNOTSUPP
from pathlib import Path
from typing import Any

import pytest

from ottla import capabilities
from ottla.log.disk import Disk
from ottla.log.files import File
from ottla.log.log import Log
from ottla.log.regions import SegmentRegion
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from ottla.wire.regions import FileRegion
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append, offsets, taken


def made(disk: Disk, directory: Path, count: int) -> list[File]:
    files = [disk.file(str(directory / f"{number}")) for number in range(count)]
    for number, file in enumerate(files):
        file.create()
        file.write_at(b"%d" % number, 0)
    return files


def test_pool_keeps_to_its_capacity_and_files_open_again(tmp_path: Path) -> None:
    disk = Disk(descriptors_max=20)
    files = made(disk, tmp_path, 100)
    assert disk.pool.open_count <= 20
    assert sum(file.is_open for file in files) == disk.pool.open_count
    assert [file.read_at(10, 0) for file in files] == [b"%d" % number for number in range(100)]
    assert disk.pool.open_count <= 20


def test_pinned_file_stays_open(tmp_path: Path) -> None:
    disk = Disk(descriptors_max=16)
    first, *others = made(disk, tmp_path, 60)
    descriptor = first.pin()
    for file in others:
        file.read_at(1, 0)
    first.close()
    assert os.pread(descriptor, 1, 0) == b"0"
    first.unpin()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


class Meanwhile:
    """A lock that somebody else gets first."""

    def __init__(self, lock: Any, other: Callable[[], None]) -> None:
        self._lock = lock
        self._others = [other]

    def __enter__(self) -> None:
        if self._others:
            self._others.pop()()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_file_whose_last_user_closes_it_meanwhile_is_closed_once(tmp_path: Path) -> None:
    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    file.pin()
    file.close()
    lock: Any = Meanwhile(disk.pool.lock, file.unpin)
    disk.pool.lock = lock
    file.close()
    assert not file.is_open
    assert disk.pool.open_count == 0


@pytest.mark.parametrize("used_before", [True, False])
def test_a_file_that_is_used_again_is_not_closed_by_who_had_it_pinned(
    tmp_path: Path, used_before: bool
) -> None:
    """The descriptor's number may have been another file's by the time of the write."""
    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    file.pin()
    file.close()
    if used_before:
        descriptor = file.descriptor()
        file.unpin()
    else:
        lock: Any = Meanwhile(disk.pool.lock, file.unpin)
        disk.pool.lock = lock
        descriptor = file.descriptor()
    assert os.pread(descriptor, 1, 0) == b"0"
    file.write_at(b"1", 0)
    assert file.read_at(1, 0) == b"1"
    assert disk.pool.open_count == 1
    file.close()
    assert disk.pool.open_count == 0


@pytest.mark.parametrize("is_closing", [False, True])
def test_a_pinned_file_that_is_made_anew_is_empty_and_has_one_descriptor(
    tmp_path: Path, is_closing: bool
) -> None:
    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    descriptor = file.pin()
    if is_closing:
        file.close()
    file.create()
    assert file.pinned_descriptor() == descriptor
    assert file.size() == 0
    file.write_at(b"new", 0)
    assert os.pread(descriptor, 5, 0) == b"new"
    file.unpin()
    assert disk.pool.open_count == 1
    file.close()
    assert disk.pool.open_count == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_file_in_use_is_closed_after_one_that_is_not(tmp_path: Path) -> None:
    disk = Disk(descriptors_max=16)
    files = made(disk, tmp_path, 16)
    for _ in range(100):
        for file in files[:4]:
            file.read_at(1, 0)
        extra = disk.file(str(tmp_path / "extra"))
        extra.create()
        extra.close()
    assert sum(file.is_open for file in files[:4]) >= 3


def test_too_many_open_files_closes_some_and_goes_on() -> None:
    disk = SimulatedDisk(descriptors_max=100)
    files = [disk.file(f"/{number}") for number in range(50)]
    for file in files:
        file.create()
    disk.fail("open", EMFILE)
    another = disk.file("/another")
    another.create()
    assert another.is_open
    assert disk.pool.open_count < 51


def test_forgotten_file_is_closed_with_its_last_pin(tmp_path: Path) -> None:
    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    descriptor = file.pin()
    file.pin()
    file.remove()
    assert os.listdir(tmp_path) == []
    file.unpin()
    assert os.pread(descriptor, 1, 0) == b"0"
    file.unpin()
    assert disk.pool.open_count == 0


def test_pinning_keeps_to_the_capacity_too(tmp_path: Path) -> None:
    disk = Disk(descriptors_max=20)
    files = made(disk, tmp_path, 60)
    for file in files:
        region = SegmentRegion(disk, file, 0, 1)
        assert region.read() == file.read_at(1, 0)
        region.close()
    assert disk.pool.open_count <= 20


def test_region_is_the_wires(tmp_path: Path) -> None:
    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    file.write_at(b"0123456789", 0)
    region = SegmentRegion(disk, file, 2, 5)
    assert isinstance(region, FileRegion)
    assert (len(region), region.position, region.read()) == (5, 2, b"23456")
    buffer = memoryview(bytearray(3))
    assert region.read_resident(1, buffer) == 3
    assert bytes(buffer) == b"345"
    region.close()
    with pytest.raises(OSError, match="closed"):
        region.read_resident(1, buffer)


def test_dropped_region_gives_its_pin_back(tmp_path: Path) -> None:
    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    region = SegmentRegion(disk, file, 0, 1)
    file.remove()
    assert disk.pool.open_count == 1
    del region
    assert disk.pool.open_count == 0


def test_a_region_that_has_been_cut_gives_what_is_left_of_it(tmp_path: Path) -> None:
    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    file.write_at(b"0123456789", 0)
    region = SegmentRegion(disk, file, 2, 8)
    file.truncate(5)
    buffer = memoryview(bytearray(8))
    assert region.read_resident(0, buffer) == 3
    assert bytes(buffer[:3]) == b"234"
    assert region.read_resident(3, buffer[:5]) == 0
    with pytest.raises(OSError, match="5 bytes before"):
        region.read()
    region.close()


def test_what_is_not_in_the_page_cache_is_not_waited_for(tmp_path: Path) -> None:
    if not capabilities.RWF_NOWAIT:
        pytest.skip("the system cannot tell what is in the page cache")
    disk = Disk()
    path = tmp_path / "cold"
    path.write_bytes(b"c" * 1_000_000)
    file = disk.file(str(path))
    region = SegmentRegion(disk, file, 0, 1_000_000)
    os.fsync(file.descriptor())
    os.posix_fadvise(file.descriptor(), 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = memoryview(bytearray(1_000_000))
    if region.read_resident(0, buffer):
        pytest.skip("the file system keeps it in memory")
    assert region.read() == b"c" * 1_000_000
    assert region.read_resident(0, buffer) == 1_000_000
    region.close()


@pytest.mark.parametrize("errno", [EOPNOTSUPP, EIO])
def test_a_file_system_that_cannot_tell_what_it_caches_is_read(
    errno: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk is told, however."""

    def refuse(*_: object) -> int:
        raise OSError(errno, os.strerror(errno))

    disk = Disk()
    (file,) = made(disk, tmp_path, 1)
    file.write_at(b"0123456789", 0)
    region = SegmentRegion(disk, file, 2, 5)
    buffer = memoryview(bytearray(5))
    monkeypatch.setattr("ottla.log.disk._NOWAIT", 8)
    monkeypatch.setattr(os, "preadv", refuse, raising=False)
    if errno == EIO:
        with pytest.raises(OSError, match=os.strerror(EIO)):
            region.read_resident(0, buffer)
    else:
        assert region.read_resident(0, buffer) == 5
        assert bytes(buffer) == b"23456"
    region.close()


def test_the_simulated_disk_has_no_page_cache_where_it_is_told_so() -> None:
    disk = SimulatedDisk()
    disk.write_file("/x", bytes(range(100)))
    file = disk.file("/x")
    region = SegmentRegion(disk, file, 10, 80)
    buffer = memoryview(bytearray(4))
    assert region.read_resident(5, buffer) == 4
    assert bytes(buffer) == bytes(range(15, 19))
    disk.fail("read_resident", EAGAIN)
    assert region.read_resident(5, buffer) == 0
    disk.heal()
    region.close()


def test_log_with_few_descriptors_works(tmp_path: Path) -> None:
    disk = Disk(descriptors_max=16)
    config = TopicConfig.of(segment_bytes=500)
    logs = [
        Log.create(disk, str(tmp_path), "t", number, TOPIC_ID, config, NOW_MS)
        for number in range(40)
    ]
    for _ in range(6):
        for log in logs:
            append(log, size=100)
    assert disk.pool.open_count <= 16
    reads = [log.read(0, 100, 6) for log in logs]
    assert [len(taken(read)) > 0 for read in reads] == [True] * 40
    assert all(offsets(log) == list(range(6)) for log in logs)
    for log in logs:
        log.close(NOW_MS)
    assert disk.pool.open_count == 0
    again = Log.open(disk, logs[7].directory, config, NOW_MS, clean=True)
    assert offsets(again) == list(range(6))
    again.close(NOW_MS)


def test_lock_is_held_until_it_is_given_up(tmp_path: Path) -> None:
    disk = Disk()
    path = str(tmp_path / ".lock")
    descriptor = disk.lock(path)
    with pytest.raises(BlockingIOError):
        Disk().lock(path)
    disk.unlock(descriptor)
    disk.unlock(disk.lock(path))


def test_replaced_file_is_the_old_or_the_new_one_after_a_power_loss() -> None:
    for calls_before in range(12):
        disk = SimulatedDisk()
        disk.replace_file("/checkpoint", b"old")
        for call in ("pwrite", "fsync", "rename"):
            disk.fail(call, after=calls_before, times=1)
        try:
            disk.replace_file("/checkpoint", b"new")
        except OSError:
            expected = {b"old", b"new"}
        else:
            expected = {b"new"}
        disk.lose_power(calls_before)
        assert disk.tree()["/checkpoint"] in expected


def test_file_system_is_synced_where_the_kernel_tells_of_failures(tmp_path: Path) -> None:
    disk = Disk()
    if not disk.can_sync_file_systems:
        pytest.skip("this kernel does not tell of a failed syncfs")
    disk.write_file(str(tmp_path / "file"), b"x")
    disk.sync_file_system(str(tmp_path))
    assert disk.read_file(str(tmp_path / "file")) == b"x"
    with pytest.raises(FileNotFoundError):
        disk.sync_file_system(str(tmp_path / "gone"))


def test_what_goes_while_a_directory_is_listed_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleaner's worker looks through a log whose replaced segments the broker removes meanwhile."""
    (tmp_path / "kept").write_bytes(b"12")
    gone = tmp_path / "gone.deleted"
    gone.write_bytes(b"1")
    scandir = os.scandir

    @contextmanager
    def late(path: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as scan:
            found = list(scan)
        gone.unlink(missing_ok=True)
        yield found

    monkeypatch.setattr(os, "scandir", late)
    assert Disk().entries(str(tmp_path)) == [("kept", False, 2)]
    (tmp_path / "link").symlink_to(gone)
    with pytest.raises(FileNotFoundError):
        Disk().entries(str(tmp_path))
