"""Small answers are taken in in the turn of the event loop that reads them; what needs more than that is for the fetcher's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from ottla.clock import SystemClock
from ottla.errors import ErrorCode
from ottla.log.flusher import Durability
from ottla.replication import copying as copying_module
from ottla.replication import fetcher as fetcher_module
from ottla.replication.partition import Partition
from tests.unit.log.samples import NOW_MS, batch
from tests.unit.replication.leading import Leader
from tests.unit.replication.test_copying import a_log, leading, values
from tests.unit.replication.test_fetcher import World, eventually, run, world


async def parked(here: World, leader: Leader) -> Partition:
    """A follower that has all that the leader has, and waits for more."""
    here.leaders[2] = leader
    copy = here.follow(epoch=leader.partitions["orders", 0].leader_epoch)
    end = leader.partitions["orders", 0].log.log_end_offset

    def waits() -> bool:
        return bool(here.wires and here.wires[-1].parked) and copy.log.log_end_offset == end

    await eventually(waits)
    return copy


class Stage(NamedTuple):
    """A leader, and its follower that waits for more."""

    here: World
    leader: Leader
    copy: Partition

    async def follow_another(self) -> None:
        """Have the leader's second partition copied, too, and wait for more of both."""
        self.here.follow(index=1)
        await eventually(lambda: len(self.leader.asked) == 3 and self.here.wires[-1].parked)

    def bring(self, batches: int = 1) -> None:
        """Answer what waits with batches of two records."""
        for _ in range(batches):
            self.leader.append(count=2)
        self.here.wires[-1].look()

    def acknowledged(self) -> list[int]:
        """The offsets that the last Fetch asks for."""
        topics = self.leader.asked[-1].topics
        return [one.fetch_offset for topic in topics for one in topic.partitions]

    def is_same(self) -> bool:
        """Whether the follower has what the leader has."""
        return values(self.copy.log) == values(self.leader.partitions["orders", 0].log)


@asynccontextmanager
async def waiting(
    durability: Durability = Durability.OS, partitions: int = 1
) -> AsyncIterator[Stage]:
    """An empty partition that is copied, of a leader with so many."""
    async with world(durability) as here:
        leader = Leader(*(leading(a_log(index=index)) for index in range(partitions)))
        yield Stage(here, leader, await parked(here, leader))


def test_a_small_answer_is_appended_and_acknowledged_in_the_turn_that_brings_it() -> None:
    async def check() -> None:
        async with waiting() as on:
            for end in (2, 4, 6):
                on.bring()
                assert on.copy.log.log_end_offset == end
                assert on.acknowledged() == [end]
                assert on.here.wires[-1].parked
            assert on.is_same()

    run(check)


def test_what_was_appended_is_acknowledged_only_once_it_is_flushed_however_small() -> None:
    async def check() -> None:
        async with waiting(Durability.DISK) as on:
            asked = len(on.leader.asked)
            on.bring()
            assert len(on.leader.asked) == asked
            await eventually(lambda: on.acknowledged() == [2])
            assert on.copy.log.flushed_end_offset == 2

    run(check)


@pytest.mark.parametrize("limit", ["AT_ONCE_BYTES", "SLICE_S"])
def test_others_have_their_turn_before_a_large_answer_is_taken_in(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying_module, "PIECE_BYTES", 1)

    async def check() -> None:
        async with waiting() as on:
            monkeypatch.setattr(fetcher_module, limit, -1)
            asked = len(on.leader.asked)
            on.bring(batches=3)
            assert on.copy.log.log_end_offset == (2 if limit == "SLICE_S" else 0)
            assert len(on.leader.asked) == asked
            await eventually(lambda: on.acknowledged() == [6])
            assert on.is_same()

    run(check)


def test_a_partition_that_a_small_answer_refuses_is_asked_for_again_after_its_delay() -> None:
    async def check() -> None:
        async with waiting() as on:
            on.leader.codes["orders", 0] = ErrorCode.UNKNOWN_LEADER_EPOCH
            on.bring()
            on.leader.codes.clear()
            await eventually(lambda: on.copy.log.log_end_offset == 2)
            assert len(on.here.wires) == 1

    run(check)


def test_a_delay_that_is_over_when_the_next_request_was_sent_is_not_forgotten() -> None:
    """The machine may be busy with others for longer than the delay, between one look at the clock and the next."""

    async def check() -> None:
        async with waiting(partitions=2) as on:
            await on.follow_another()
            fetchers: Any = on.here.replicas.fetchers
            clock, asked = SystemClock(), on.leader.asked
            fetchers._fetchers[2, 0]._clock = SimpleNamespace(
                monotonic=lambda: clock.monotonic() + 60 * len(asked), now_ms=clock.now_ms
            )
            on.leader.codes["orders", 0] = ErrorCode.UNKNOWN_LEADER_EPOCH
            on.bring()
            on.leader.codes.clear()
            await eventually(lambda: on.copy.log.log_end_offset == 2)

    run(check)


def test_a_log_that_a_small_answer_has_cut_is_cut_by_the_loop() -> None:
    async def check() -> None:
        async with world(Durability.OS) as here:
            theirs = leading(a_log(), epoch=3)
            leader = Leader(theirs)
            leader.append(count=1)
            on = Stage(here, leader, await parked(here, leader))
            on.copy.log.append_as_leader(memoryview(batch(5)), 3, NOW_MS)  # which the leader lacks
            theirs.become_leader(4, 0, [2], [2])
            here.follow(epoch=4)
            await eventually(lambda: on.copy.log.log_end_offset == 1)
            leader.append(count=2)
            await eventually(lambda: here.wires[-1].parked)
            here.wires[-1].look()
            await eventually(on.is_same)

    run(check)


def test_a_connection_that_is_lost_while_an_answer_is_taken_in_is_made_again() -> None:
    async def check() -> None:
        async with waiting() as on:
            on.here.wires[-1].closed = True  # so the next request cannot be sent
            on.bring()
            assert on.copy.log.log_end_offset == 2
            on.leader.append(count=2)
            await eventually(lambda: on.copy.log.log_end_offset == 4)
            assert len(on.here.wires) == 2

    run(check)


def test_what_is_copied_no_more_is_not_appended_to() -> None:
    async def check() -> None:
        async with waiting(partitions=2) as on:
            await on.follow_another()
            fetchers: Any = on.here.replicas.fetchers
            fetchers.stop(on.copy)
            on.leader.append(index=1, count=2)
            on.bring()
            other = on.here.replicas.get("orders", 1)
            assert other is not None
            await eventually(lambda: other.log.log_end_offset == 2)
            assert on.copy.log.log_end_offset == 0

    run(check)
