"""Small answers are taken in in the turn of the event loop that reads them; what needs more than that is for the fetcher's loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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


def acknowledged(leader: Leader) -> list[int]:
    """The offsets that the last Fetch asks for."""
    return [one.fetch_offset for topic in leader.asked[-1].topics for one in topic.partitions]


def test_a_small_answer_is_appended_and_acknowledged_in_the_turn_that_brings_it() -> None:
    async def check() -> None:
        async with world(Durability.OS) as here:
            leader = Leader(leading(a_log()))
            copy = await parked(here, leader)
            for end in (2, 4, 6):
                leader.append(count=2)
                here.wires[-1].look()
                assert copy.log.log_end_offset == end
                assert acknowledged(leader) == [end]
                assert here.wires[-1].parked
            assert values(copy.log) == values(leader.partitions["orders", 0].log)

    run(check)


def test_what_was_appended_is_acknowledged_only_once_it_is_flushed_however_small() -> None:
    async def check() -> None:
        async with world(Durability.DISK) as here:
            leader = Leader(leading(a_log()))
            copy = await parked(here, leader)
            asked = len(leader.asked)
            leader.append(count=2)
            here.wires[-1].look()
            assert len(leader.asked) == asked
            await eventually(lambda: acknowledged(leader) == [2])
            assert copy.log.flushed_end_offset == 2

    run(check)


@pytest.mark.parametrize("limit", ["AT_ONCE_BYTES", "SLICE_S"])
def test_others_have_their_turn_before_a_large_answer_is_taken_in(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying_module, "PIECE_BYTES", 1)

    async def check() -> None:
        async with world(Durability.OS) as here:
            leader = Leader(leading(a_log()))
            copy = await parked(here, leader)
            monkeypatch.setattr(fetcher_module, limit, -1)
            asked = len(leader.asked)
            for _ in range(3):
                leader.append(count=2)
            here.wires[-1].look()
            assert copy.log.log_end_offset == (2 if limit == "SLICE_S" else 0)
            assert len(leader.asked) == asked
            await eventually(lambda: acknowledged(leader) == [6])
            assert values(copy.log) == values(leader.partitions["orders", 0].log)

    run(check)


def test_a_partition_that_a_small_answer_refuses_is_asked_for_again_after_its_delay() -> None:
    async def check() -> None:
        async with world(Durability.OS) as here:
            leader = Leader(leading(a_log()))
            copy = await parked(here, leader)
            leader.codes["orders", 0] = ErrorCode.UNKNOWN_LEADER_EPOCH
            leader.append(count=2)
            here.wires[-1].look()
            leader.codes.clear()
            await eventually(lambda: copy.log.log_end_offset == 2)
            assert len(here.wires) == 1

    run(check)


def test_a_delay_that_is_over_when_the_next_request_was_sent_is_not_forgotten() -> None:
    """The machine may be busy with others for longer than the delay, between one look at the clock and the next."""

    async def check() -> None:
        async with world(Durability.OS) as here:
            leader = Leader(leading(a_log()), leading(a_log(index=1)))
            copy = await parked(here, leader)
            here.follow(index=1)
            await eventually(lambda: len(leader.asked) == 3 and here.wires[-1].parked)
            fetchers: Any = here.replicas.fetchers
            clock, wire = SystemClock(), here.wires[-1]
            fetchers._fetchers[2, 0]._clock = SimpleNamespace(
                monotonic=lambda: clock.monotonic() + 60 * len(leader.asked), now_ms=clock.now_ms
            )
            leader.codes["orders", 0] = ErrorCode.UNKNOWN_LEADER_EPOCH
            leader.append(count=2)
            wire.look()
            leader.codes.clear()
            await eventually(lambda: copy.log.log_end_offset == 2)

    run(check)


def test_a_log_that_a_small_answer_has_cut_is_cut_by_the_loop() -> None:
    async def check() -> None:
        async with world(Durability.OS) as here:
            theirs = leading(a_log(), epoch=3)
            leader = Leader(theirs)
            leader.append(count=1)
            copy = await parked(here, leader)
            copy.log.append_as_leader(memoryview(batch(5)), 3, NOW_MS)  # which the leader has not
            theirs.become_leader(4, 0, [2], [2])
            here.follow(epoch=4)
            await eventually(lambda: copy.log.log_end_offset == 1)
            leader.append(count=2)
            await eventually(lambda: here.wires[-1].parked)
            here.wires[-1].look()
            await eventually(lambda: values(copy.log) == values(theirs.log))

    run(check)


def test_a_connection_that_is_lost_while_an_answer_is_taken_in_is_made_again() -> None:
    async def check() -> None:
        async with world(Durability.OS) as here:
            leader = Leader(leading(a_log()))
            copy = await parked(here, leader)
            here.wires[-1].closed = True  # so the next request cannot be sent
            leader.append(count=2)
            here.wires[-1].look()
            assert copy.log.log_end_offset == 2
            leader.append(count=2)
            await eventually(lambda: copy.log.log_end_offset == 4)
            assert len(here.wires) == 2

    run(check)


def test_what_is_copied_no_more_is_not_appended_to() -> None:
    async def check() -> None:
        async with world(Durability.OS) as here:
            leader = Leader(leading(a_log()), leading(a_log(index=1)))
            copy = await parked(here, leader)
            here.follow(index=1)
            await eventually(lambda: len(leader.asked) == 3 and here.wires[-1].parked)
            fetchers: Any = here.replicas.fetchers
            fetchers.stop(copy)
            leader.append(count=2)
            leader.append(index=1, count=2)
            here.wires[-1].look()
            other = here.replicas.get("orders", 1)
            assert other is not None
            await eventually(lambda: other.log.log_end_offset == 2)
            assert copy.log.log_end_offset == 0

    run(check)
