"""Syncs that the kernel's threads do: begun, ended and told on the loop, and left alone where there are none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log import kernel_syncs
from ottla.log.disk import Disk
from ottla.log.flusher import Flusher
from ottla.log.kernel_syncs import KernelSyncs
from ottla.log.log import Log
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append


@contextmanager
def a_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, b"written", 0)
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def syncs() -> Iterator[KernelSyncs]:
    try:
        found = KernelSyncs(2)
    except OSError as error:
        pytest.skip(f"this system has none: {error}")
    yield found
    found.close()


async def test_a_sync_ends_on_the_loop(syncs: KernelSyncs, tmp_path: Path) -> None:
    syncs.attach(asyncio.get_running_loop())
    for number in range(3):
        ended: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        with a_file(tmp_path / str(number)) as descriptor:
            assert syncs.sync(descriptor, ended.set_result)
        assert await ended is None, "also where the file was closed meanwhile"


async def test_what_cannot_be_synced_so_is_not_begun(syncs: KernelSyncs) -> None:
    syncs.attach(asyncio.get_running_loop())
    reading, writing = os.pipe()
    try:
        assert not syncs.sync(writing, pytest.fail)
    finally:
        os.close(reading)
        os.close(writing)
    assert not syncs.sync(writing, pytest.fail)


async def test_no_more_are_under_way_than_there_is_room_for(
    syncs: KernelSyncs, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    with a_file(tmp_path / "f") as descriptor:
        first, second = loop.create_future(), loop.create_future()
        assert syncs.sync(descriptor, first.set_result)
        assert syncs.sync(descriptor, second.set_result)
        assert not syncs.sync(descriptor, pytest.fail), (
            "nobody takes their ends before the loop does"
        )
        syncs.attach(loop)
        assert list(await asyncio.gather(first, second)) == [None, None]
        third = loop.create_future()
        assert syncs.sync(descriptor, third.set_result)
        assert await third is None


async def test_who_closes_waits_for_the_syncs_and_tells_nobody(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    try:
        syncs = KernelSyncs(2)
    except OSError as error:
        pytest.skip(f"this system has none: {error}")
    syncs.attach(asyncio.get_running_loop())
    with a_file(tmp_path / "f") as descriptor:
        assert syncs.sync(descriptor, lambda error: pytest.fail("told"))
        syncs.close()
    await asyncio.sleep(0)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_who_fails_at_the_end_of_a_sync_takes_no_other_end_with_it(
    syncs: KernelSyncs, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    loop.set_exception_handler(lambda _, context: told.set_result(context["message"]))

    def fail(error: OSError | None) -> None:
        raise ValueError

    with a_file(tmp_path / "f") as descriptor:
        ended = loop.create_future()
        assert syncs.sync(descriptor, fail)
        assert syncs.sync(descriptor, ended.set_result)
        syncs.attach(loop)
        assert await ended is None
        assert await told == "what waits for a sync failed"


def test_a_program_of_32_bits_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.maxsize", 2**31 - 1)
    with pytest.raises(OSError, match="no asynchronous syncs"):
        KernelSyncs(1)


class Counted(KernelSyncs):
    """Counts, and fails what it is told to."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        Counted.made.append(self)
        self.begun = 0
        self.error: OSError | None = None

    made: list[Counted]

    def sync(self, descriptor: int, done: kernel_syncs.Done) -> bool:
        self.begun += 1
        error = self.error
        return super().sync(descriptor, done if error is None else lambda _: done(error))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, syncs: KernelSyncs) -> list[Counted]:
    """``syncs`` is there for its skip."""
    Counted.made = []
    monkeypatch.setattr("ottla.log.flusher.KernelSyncs", Counted)
    return Counted.made


@asynccontextmanager
async def a_log(path: Path) -> AsyncIterator[tuple[Flusher, Log]]:
    on = Disk()
    log = Log.create(on, str(path), "t", 0, TOPIC_ID, TopicConfig.of(), NOW_MS)
    flusher = Flusher(on)
    try:
        yield flusher, log
    finally:
        await flusher.close()
        if log.health.failure is None:
            log.close(NOW_MS)


async def flushed(flusher: Flusher, log: Log) -> None:
    append(log, 1)
    await flusher.flush(log)
    assert log.flushed_end_offset == log.log_end_offset


async def made(counted: list[Counted]) -> Counted:
    while not counted or counted[0]._loop is None:  # noqa: ASYNC110 - a thread makes it
        await asyncio.sleep(0.001)
    return counted[0]


async def test_where_one_file_is_to_be_synced_the_kernel_does_it(
    counted: list[Counted], tmp_path: Path
) -> None:
    async with a_log(tmp_path) as (flusher, log):
        await flushed(flusher, log)  # names, too, and the first one
        kernel = await made(counted)
        for expected in (1, 2):
            await flushed(flusher, log)
            assert kernel.begun == expected
        log.roll(NOW_MS)
        await flushed(flusher, log)
        assert kernel.begun == 2, "more than one file, and names"


async def test_a_sync_that_failed_in_the_kernel_is_final(
    counted: list[Counted], tmp_path: Path
) -> None:
    async with a_log(tmp_path) as (flusher, log):
        await flushed(flusher, log)
        (await made(counted)).error = OSError(5, "Input/output error")
        with pytest.raises(KafkaError) as raised:
            await flushed(flusher, log)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert log.health.failure is not None


async def test_a_disk_with_a_sync_of_its_own_is_asked_for_it(
    counted: list[Counted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_log(tmp_path) as (flusher, log):
        await flushed(flusher, log)
        kernel = await made(counted)
        synced: list[int] = []
        monkeypatch.setattr(Disk, "fdatasync", staticmethod(synced.append))
        await flushed(flusher, log)
        assert (len(synced), kernel.begun) == (1, 0)


async def test_without_the_kernels_syncs_threads_do_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none(count: int) -> KernelSyncs:
        raise OSError("none here")

    monkeypatch.setattr("ottla.log.flusher.KernelSyncs", none)
    async with a_log(tmp_path) as (flusher, log):
        for _ in range(3):
            await flushed(flusher, log)


async def test_where_no_thread_can_be_started_a_flush_is_put_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = [True]
    start = Thread.start

    def refuse(thread: Thread) -> None:
        if failing and thread.name.startswith("ottla-flush"):
            failing.clear()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(Thread, "start", refuse)
    async with a_log(tmp_path) as (flusher, log):
        await flushed(flusher, log)
        assert not failing
        await flushed(flusher, log)
