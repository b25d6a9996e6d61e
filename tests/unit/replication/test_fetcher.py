"""Fetching over a connection: asking, appending, flushing and asking again."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from ottla.broker.fetch_sessions import FetchContext
from ottla.clock import SystemClock
from ottla.errors import ErrorCode, KafkaError
from ottla.log import local_log
from ottla.log.directories import LogDirectories
from ottla.log.flusher import Durability, Flusher
from ottla.messages.fetch import FetchRequest, FetchResponse
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.network.channel import ConnectionClosed
from ottla.replication import fetcher as fetcher_module
from ottla.replication.copies import Limits
from ottla.replication.fetcher import Surroundings
from ottla.replication.fetchers import Fetchers
from ottla.replication.partition import Partition
from ottla.replication.replicas import Replicas
from ottla.settings.definitions import TopicConfig
from tests.support.waiting import eventually_true
from tests.unit.log.samples import NOW_MS, TOPIC_ID, batch, disk
from tests.unit.replication.leading import Leader
from tests.unit.replication.test_copying import a_log, leading, values

LIMITS = Limits(
    max_bytes=1 << 20, response_max_bytes=10 << 20, min_bytes=1, wait_max_ms=60_000, backoff_ms=50
)


class Wire:
    """A connection to a ``Leader``; a Fetch without records waits until ``look`` finds some, or another one comes."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.closed = False
        self.taker: Callable[[Any, Any, int], bool] | None = None
        self.parked: tuple[FetchContext, asyncio.Future[Any]] | None = None

    def version_for(self, api_key: int, wanted: tuple[int, int]) -> int:
        return wanted[1]

    def send(
        self, message: Any, *, version: int, timeout: float, at_once: bool = False
    ) -> asyncio.Future[Any]:
        if self.closed:
            raise ConnectionClosed("closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not isinstance(message, FetchRequest):
            future.set_result(self.leader.list_offsets(message))
            return future
        if self.parked is not None:
            self._answer(self.leader.look(self.parked[0])[0])
        context = self.leader.open(message, version)
        if isinstance(context, FetchResponse):
            future.set_result(context)
            return future
        self.parked = (context, future)
        self.look()
        if not message.max_wait_ms and self.parked is not None:
            self._answer(self.leader.look(context)[0])
        return future

    def look(self) -> None:
        """Answer the Fetch that waits, if there is something for it."""
        if self.parked is not None:
            answer, enough = self.leader.look(self.parked[0])
            if enough:
                self._answer(answer)

    def _answer(self, answer: FetchResponse) -> None:
        assert self.parked is not None
        context, future = self.parked
        self.parked = None
        context.finish()
        if not future.done() and not (self.taker and self.taker(future, answer, 100)):
            future.set_result(answer)

    def abort(self, reason: str) -> None:
        self.closed = True
        if self.parked is not None and not self.parked[1].done():
            self.parked[1].set_exception(ConnectionClosed(reason))
        self.parked = None


class World:
    """Broker 1 with its replicas, and the leaders that it can reach."""

    def __init__(self, durability: Durability) -> None:
        self.disk = disk()
        self.flusher = Flusher(self.disk, durability=durability)
        self.directories = LogDirectories(["/logs"], self.disk, flusher=self.flusher)
        self.leaders: dict[int, Leader] = {}
        self.wires: list[Wire] = []
        self.refused = 0
        self.failed: list[Partition] = []
        self.replicas = Replicas(
            self.directories,
            self.flusher,
            node_id=1,
            clock=SystemClock(),
            exists=lambda topic, index: True,
            config_of=lambda topic: TopicConfig.of(),
            make_fetchers=self.make_fetchers,
            on_storage_error=self.failed.append,
            **cast(Any, {"move_bytes_per_second": lambda: 0}),
        )

    def make_fetchers(self, replicas: Replicas) -> Fetchers:
        around = Surroundings(
            node_id=1,
            clock=SystemClock(),
            directories=self.directories,
            flusher=self.flusher,
            limits=lambda: LIMITS,
            request_timeout_s=lambda: 30,
            endpoint_of=lambda leader: ("leader", leader),
            broker_epoch=lambda: 77,
            connect=cast(Any, self.connect),
            keep_log_starts=replicas.keep_log_starts,
            on_storage_error=replicas.storage_failed,
        )
        return Fetchers(around)

    async def connect(self, host: str, port: int) -> Wire:
        if port not in self.leaders:
            self.refused += 1
            raise KafkaError(ErrorCode.NETWORK_EXCEPTION, "nobody there")
        wire = Wire(self.leaders[port])
        self.wires.append(wire)
        return wire

    def follow(self, leader: int = 2, epoch: int = 5, index: int = 0) -> Partition:
        state = LeaderAndIsrPartitionState(
            partition_index=index, leader=leader, leader_epoch=epoch, replicas=[1, 2], isr=[2]
        )
        assert self.replicas.follow("orders", TOPIC_ID, state) is ErrorCode.NONE
        partition = self.replicas.get("orders", index)
        assert partition is not None
        return partition


@asynccontextmanager
async def world(durability: Durability = Durability.DISK) -> AsyncIterator[World]:
    made = World(durability)
    made.directories.open()
    try:
        yield made
    finally:
        await made.replicas.close()
        await made.flusher.close()
        made.directories.close(0)


async def eventually(probe: Callable[[], object]) -> None:
    async def ask() -> object:
        return probe()

    await eventually_true(ask, "what the test waits for")


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast(Any, test()))


def test_records_are_copied_flushed_and_acknowledged() -> None:
    async def check() -> None:
        async with world() as here:
            leader = here.leaders[2] = Leader(leading(a_log()))
            leader.append(count=3)
            copy = here.follow()
            await eventually(lambda: copy.high_watermark == 3)
            assert copy.log.flushed_end_offset == 3
            await eventually(lambda: here.wires[-1].parked)
            offsets = [p.fetch_offset for a in leader.asked for t in a.topics for p in t.partitions]
            assert set(offsets) == {0, 3}
            leader.append(count=2)
            here.wires[-1].look()
            await eventually(lambda: copy.high_watermark == 5)
            assert values(copy.log) == values(leader.partitions["orders", 0].log)

    run(check)


def test_a_leader_that_is_not_there_yet_or_hangs_up_is_tried_again() -> None:
    async def check() -> None:
        async with world() as here:
            copy = here.follow()
            leader = Leader(leading(a_log()))
            leader.append()
            assert copy.log.log_end_offset == 0
            here.leaders[2] = leader
            await eventually(lambda: copy.log.log_end_offset == 1)
            here.wires[-1].abort("gone")
            leader.append()
            await eventually(lambda: copy.log.log_end_offset == 2)

    run(check)


def test_who_waits_to_connect_again_does_so_when_brokers_have_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetcher_module, "FIRST_DELAY_S", 900.0)
    monkeypatch.setattr(sys.modules[__name__], "LIMITS", LIMITS._replace(backoff_ms=900_000))

    async def check() -> None:
        async with world() as here:
            copy = here.follow()
            await eventually(lambda: here.refused)
            here.leaders[2] = leader = Leader(leading(a_log()))
            leader.append()
            await here.replicas.brokers_changed()
            await eventually(lambda: copy.log.log_end_offset == 1)

    run(check)


def test_a_partition_that_comes_while_a_fetch_waits_does_not_wait_with_it() -> None:
    async def check() -> None:
        async with world() as here:
            leader = here.leaders[2] = Leader(leading(a_log()), leading(a_log(index=1)))
            first = here.follow()
            leader.append(index=1)
            await eventually(lambda: here.wires and here.wires[-1].parked)
            second = here.follow(index=1)
            await eventually(lambda: second.log.log_end_offset == 1)
            assert first.log.log_end_offset == 0
            assert len(here.wires) == 1

    run(check)


def test_a_partition_that_is_refused_is_asked_for_again_while_a_fetch_of_others_waits() -> None:
    """A leader hears of its leadership later than its follower, as a rule; the follower waits for 10 ms and more."""

    async def check() -> None:
        async with world() as here:
            leader = here.leaders[2] = Leader(leading(a_log()), leading(a_log(index=1)))
            leader.codes["orders", 1] = ErrorCode.UNKNOWN_LEADER_EPOCH
            leader.append(index=1)
            first = here.follow()
            await eventually(lambda: here.wires and here.wires[-1].parked)
            second = here.follow(index=1)
            fetchers = here.replicas.fetchers
            assert fetchers is not None
            copy = fetchers.copy_of("orders", 1)
            assert copy is not None
            await eventually(lambda: copy.failures >= 3 and here.wires[-1].parked)
            leader.codes.clear()
            await eventually(lambda: second.log.log_end_offset == 1)
            assert first.log.log_end_offset == 0
            assert len(here.wires) == 1

    run(check)


def test_who_follows_another_leader_applies_nothing_of_the_one_before() -> None:
    async def check() -> None:
        async with world() as here:
            here.leaders[2] = Leader(leading(a_log()))
            other = leading(a_log(), epoch=6)
            other.node_id = other.leader_id = 3
            here.leaders[3] = Leader(other, node_id=3)
            copy = here.follow(2)
            await eventually(lambda: here.wires and here.wires[-1].parked)
            before = here.wires[-1]
            here.leaders[2].append(count=4, size=30)
            here.follow(3, epoch=6)
            before.look()
            here.leaders[3].append(count=2)
            await eventually(lambda: len(here.wires) > 1 and here.wires[-1].parked)
            here.wires[-1].look()
            await eventually(lambda: copy.high_watermark == 2)
            assert values(copy.log) == values(other.log)
            await eventually(lambda: before.closed)
            assert here.replicas.fetchers is not None
            assert here.replicas.fetchers.leaders == {3}

    run(check)


def test_who_leads_now_fetches_no_more_and_keeps_what_was_committed() -> None:
    async def check() -> None:
        async with world() as here:
            here.leaders[2] = Leader(leading(a_log()))
            here.leaders[2].append(count=2)
            copy = here.follow()
            await eventually(lambda: copy.high_watermark == 2)
            state = LeaderAndIsrPartitionState(leader=1, leader_epoch=6, replicas=[1, 2], isr=[1])
            assert here.replicas.lead("orders", TOPIC_ID, state) is ErrorCode.NONE
            assert (copy.is_leader, copy.high_watermark) == (True, 2)
            assert here.replicas.fetchers is not None
            assert len(here.replicas.fetchers) == 0

    run(check)


def test_a_log_is_cut_only_after_its_recovery_point_was_lowered() -> None:
    async def check() -> None:
        async with world() as here:
            theirs = leading(a_log(), epoch=3)
            here.leaders[2] = Leader(theirs)
            here.leaders[2].append(count=1)
            copy = here.follow(epoch=3)
            await eventually(lambda: copy.high_watermark == 1)
            state = LeaderAndIsrPartitionState(leader=1, leader_epoch=4, replicas=[1, 2], isr=[1])
            here.replicas.lead("orders", TOPIC_ID, state)
            here.leaders[2] = Leader(theirs)
            copy.append_as_leader(memoryview(batch(5)), NOW_MS, required_acks=1)
            await here.flusher.flush(copy.log)
            directory = here.directories.directory_of(copy.log)
            directory.write_checkpoints(directory.take_checkpoints())
            theirs.become_leader(5, 0, [2], [2])
            copy = here.follow(epoch=5)
            await eventually(lambda: copy.log.log_end_offset == 1)
            point = here.disk.read_file("/logs/recovery-point-offset-checkpoint", 1 << 16)
            assert point.split(b"\n")[2] == b"orders 0 0"

    run(check)


def test_producers_are_read_off_the_loop_before_a_long_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a segment may have to be read; amid a failover others wait for this loop."""
    threads: list[int] = []
    read = local_log.replay_producers

    def replay_producers(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return read(*arguments)

    monkeypatch.setattr(local_log, "REPLAYED_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(local_log, "replay_producers", replay_producers)
    monkeypatch.setattr(local_log, "rebuild_producers", None)

    async def check() -> None:
        async with world() as here:
            theirs = leading(a_log(), epoch=3)
            here.leaders[2] = Leader(theirs)
            here.leaders[2].append(count=1)
            copy = here.follow(epoch=3)
            await eventually(lambda: copy.high_watermark == 1)
            state = LeaderAndIsrPartitionState(leader=1, leader_epoch=4, replicas=[1, 2], isr=[1])
            here.replicas.lead("orders", TOPIC_ID, state)
            here.leaders[2] = Leader(theirs)
            copy.append_as_leader(memoryview(batch(5)), NOW_MS, required_acks=1)
            theirs.become_leader(5, 0, [2], [2])
            copy = here.follow(epoch=5)
            await eventually(lambda: copy.log.log_end_offset == 1)
            assert threads
            assert threading.get_ident() not in threads

    run(check)
