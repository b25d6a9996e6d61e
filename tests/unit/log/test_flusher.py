"""Group commit: who waits for whom, how many at once, and what a failed sync means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from errno import EIO, EMFILE, ENOSPC
from threading import Event, Lock
from typing import Any

import pytest

from ottla.clock import ManualClock
from ottla.errors import ErrorCode, KafkaError
from ottla.log import flusher as flusher_module
from ottla.log.flusher import Durability, Flusher
from ottla.log.log import Log
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, PARENT, TOPIC_ID, append, disk, new_log


class GatedDisk(SimulatedDisk):
    """A disk whose syncs wait for ``gate``; ``most`` is how many were under way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Event()
        self.under_way = 0
        self.most = 0
        self.lock_of_count = Lock()
        inner = self.fdatasync

        def wait(descriptor: int) -> None:
            with self.lock_of_count:
                self.under_way += 1
                self.most = max(self.most, self.under_way)
            assert self.gate.wait(10)
            with self.lock_of_count:
                self.under_way -= 1
                inner(descriptor)

        self.fdatasync = wait
        self.mkdir(PARENT)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def logs(on: SimulatedDisk, count: int) -> list[Log]:
    config = TopicConfig.of()
    return [Log.create(on, PARENT, "t", index, TOPIC_ID, config, NOW_MS) for index in range(count)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - other threads make it true
        await asyncio.sleep(0)


def test_flush_waits_for_what_is_in_the_log() -> None:
    async def test() -> None:
        on = disk()
        log = new_log(on)
        flusher = Flusher(on, clock=ManualClock())
        append(log, 3)
        await flusher.flush(log)
        assert log.flushed_end_offset == 3
        await flusher.flush(log)
        await flusher.close()

    run(test)


def test_one_sync_serves_all_that_wait() -> None:
    async def test() -> None:
        on = disk()
        log = new_log(on)
        flusher = Flusher(on)
        append(log)
        await flusher.flush(log)
        before = on.calls["fdatasync"]
        waiting = []
        for _ in range(20):
            append(log)
            waiting.append(asyncio.ensure_future(flusher.flush(log)))
        await asyncio.gather(*waiting)
        assert log.flushed_end_offset == 21
        assert on.calls["fdatasync"] == before + 1
        await flusher.close()

    run(test)


def test_what_comes_during_a_sync_waits_for_the_next_one() -> None:
    async def test() -> None:
        on = GatedDisk()
        log = new_log(on)
        flusher = Flusher(on)
        append(log)
        first = asyncio.ensure_future(flusher.flush(log))
        await until(lambda: on.under_way == 1)
        append(log, 2)
        second = asyncio.ensure_future(flusher.flush(log))
        third = asyncio.ensure_future(flusher.flush(log))
        await asyncio.sleep(0)
        assert on.most == 1
        on.gate.set()
        await first
        await asyncio.gather(second, third)
        assert log.flushed_end_offset == 3
        assert on.calls["fdatasync"] == 2
        await flusher.close()

    run(test)


def test_parallel_syncs_are_bounded() -> None:
    async def test() -> None:
        on = GatedDisk()
        flusher = Flusher(on, parallelism=3)
        many = logs(on, 20)
        for log in many:
            append(log)
        waiting = [asyncio.ensure_future(flusher.flush(log)) for log in many]
        await until(lambda: on.under_way == 3)
        on.gate.set()
        await asyncio.gather(*waiting)
        assert on.most == 3
        assert all(log.flushed_end_offset == 1 for log in many)
        await flusher.close()

    run(test)


def test_very_many_logs_are_synced_with_their_file_system() -> None:
    async def test() -> None:
        on = disk()
        flusher = Flusher(on, sync_file_system_from=10)
        many = logs(on, 25)
        for log in many:
            append(log)
        await asyncio.gather(*(flusher.flush(log) for log in many))
        assert all(log.flushed_end_offset == 1 for log in many)
        assert on.calls["syncfs"] == 2  # the leader epochs before they are renamed, then all
        assert on.calls.get("fdatasync", 0) == 0
        on.lose_power()
        assert len([path for path in on.tree() if path.endswith(".log")]) == 25
        await flusher.close()

    run(test)


@pytest.mark.parametrize("together", [False, True])
def test_failed_sync_fails_who_waits_and_is_told_once(together: bool) -> None:
    async def test() -> None:
        on = disk()
        told: list[tuple[str, int | None]] = []
        flusher = Flusher(
            on,
            sync_file_system_from=2 if together else 1000,
            on_failure=lambda path, error: told.append((path, error.errno)),
        )
        health = new_log(on).health
        config = TopicConfig.of()
        many = [
            Log.create(on, PARENT, "t", index, TOPIC_ID, config, NOW_MS, health=health)
            for index in range(8)
        ]
        for log in many:
            append(log)
        on.fail("syncfs" if together else "fdatasync", EIO)
        answers = await asyncio.gather(
            *(flusher.flush(log) for log in many), return_exceptions=True
        )
        failed = [answer for answer in answers if isinstance(answer, KafkaError)]
        assert failed
        assert {answer.code for answer in failed} == {ErrorCode.KAFKA_STORAGE_ERROR}
        assert told == [("/logs", EIO)]
        calls = dict(on.calls)
        with pytest.raises(KafkaError):
            await flusher.flush(many[0])
        flusher.request(many[0])
        await flusher.close()
        assert on.calls == calls

    run(test)


def test_flush_without_room_is_put_off_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flusher_module, "_RETRY_S", 0.001)

    async def test() -> None:
        on = disk()
        log = new_log(on)
        flusher = Flusher(on)
        append(log)
        on.fail("pwrite", ENOSPC, times=3, path="leader-epoch")
        await flusher.flush(log)
        assert log.flushed_end_offset == 1
        assert log.health.failure is None
        await flusher.close()

    run(test)


def test_flush_without_a_descriptor_is_put_off_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flusher_module, "_RETRY_S", 0.001)

    async def test() -> None:
        on = disk()
        log = new_log(on)
        flusher = Flusher(on)
        append(log)
        log.segments.active.close()
        on.fail("open", EMFILE, times=3)
        await flusher.flush(log)
        assert log.flushed_end_offset == 1
        assert log.health.failure is None
        await flusher.close()

    run(test)


def test_log_deleted_during_its_flush_harms_nobody() -> None:
    async def test() -> None:
        on = GatedDisk()
        log = new_log(on)
        flusher = Flusher(on)
        append(log)
        waiting = asyncio.ensure_future(flusher.flush(log))
        await until(lambda: on.under_way == 1)
        log.retire("0" * 32, "-delete")
        on.gate.set()
        await asyncio.gather(waiting, return_exceptions=True)
        assert log.health.failure is None
        await flusher.close()

    run(test)


def test_durability_says_what_is_acknowledged_and_what_is_synced() -> None:
    async def test() -> None:
        on = disk()
        by_disk = Flusher(on)
        by_os = Flusher(on, durability=Durability.OS)
        log = new_log(on)
        append(log)
        by_os.appended(log)
        assert log.flushing == 0
        assert (by_os.acknowledged_end_offset(log), by_disk.acknowledged_end_offset(log)) == (1, 0)
        by_disk.appended(log)
        assert log.flushing != 0
        await by_disk.close()
        assert by_disk.acknowledged_end_offset(log) == 1
        await by_os.close()

    run(test)


def test_attached_log_is_flushed_when_it_rolls() -> None:
    async def test() -> None:
        on = disk()
        flusher = Flusher(on, durability=Durability.OS)
        log = new_log(on, segment_bytes=500)
        flusher.attach(log)
        for _ in range(4):
            append(log, size=100)
        rolled = log.segments.active.base_offset
        assert rolled > 0
        await until(lambda: log.flushed_end_offset >= rolled)
        await flusher.close()

    run(test)


def test_broken_listener_stops_no_flush() -> None:
    async def test() -> None:
        on = disk()
        flusher = Flusher(on)
        first, second = logs(on, 2)

        def broken(_: Log) -> None:
            raise RuntimeError("broken")

        first.on_flushed = broken
        append(first)
        append(second)
        await asyncio.gather(flusher.flush(first), flusher.flush(second))
        assert (first.flushed_end_offset, second.flushed_end_offset) == (1, 1)
        await flusher.close()

    run(test)


def test_close_flushes_what_is_queued_and_later_requests_do_nothing() -> None:
    async def test() -> None:
        on = disk()
        flusher = Flusher(on)
        many = logs(on, 5)
        for log in many:
            append(log)
            flusher.request(log)
        await flusher.close()
        assert all(log.flushed_end_offset == 1 for log in many)
        append(many[0])
        flusher.request(many[0])
        await asyncio.sleep(0)
        assert many[0].flushed_end_offset == 1

    run(test)


def test_a_flush_without_a_descriptor_closes_files_that_are_open_without_need() -> None:
    async def test() -> None:
        on = disk()
        many = logs(on, 20)
        flusher = Flusher(on)
        for log in many:
            append(log)
        open_before = on.pool.open_count
        assert open_before >= 20
        on.fail("open", EMFILE, path="leader-epoch")
        await flusher.flush(many[0])
        assert many[0].flushed_end_offset == 1
        assert on.pool.open_count < open_before
        await flusher.close()

    run(test)


def test_a_flush_that_breaks_by_our_own_fault_is_told_and_does_not_hold_up_a_stop() -> None:
    async def test() -> None:
        on = disk()
        log = new_log(on)
        flusher = Flusher(on, clock=ManualClock())
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

        def fail(descriptor: int) -> None:
            raise ZeroDivisionError

        on.fdatasync = fail
        append(log, 1)
        flusher.request(log)
        await flusher.close()
        assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
        assert log.flushed_end_offset == 0

    run(test)
