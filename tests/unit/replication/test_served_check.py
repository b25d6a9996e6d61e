"""A leader that is asked for the same records over and over looks whether they are damaged (INVARIANTS 23)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.records.batch import iter_batches
from ottla.replication.leading import REPEATS_SUSPECT
from ottla.replication.partition import Partition
from ottla.replication.served_check import check_served
from tests.unit.log.samples import DIRECTORY, TOPIC_ID, disk, new_log
from tests.unit.replication.leaders import Leader, new_replicas

COUNT = 5


def leader_of_damaged(number: int | None) -> Leader:
    """Five batches, of which this one has a changed bit."""
    on = disk()
    leader = Leader([1, 2], [1, 2], log=new_log(on))
    for _ in range(COUNT):
        leader.append()
    if number is not None:
        content = on.tree()[f"{DIRECTORY}/{0:020}.log"]
        starts = [position for position, _ in iter_batches(content)]
        ends = [*starts[1:], len(content)]
        at = ends[number] - 1
        file = leader.partition.log.segments.active.log_file
        file.write_at(bytes([content[at] ^ 1]), at)
    return leader


def test_a_leader_looks_once_where_a_follower_does_not_get_on() -> None:
    leader = leader_of_damaged(None)
    looked: list[int] = []
    leader.peers.on_stuck = lambda partition, offset: looked.append(offset)
    for _ in range(REPEATS_SUSPECT):
        leader.fetch(2, 1)
    assert not looked
    for _ in range(REPEATS_SUSPECT):
        leader.fetch(2, 1)
    assert looked == [1]
    leader.fetch(2, 2)
    for _ in range(REPEATS_SUSPECT):
        leader.fetch(2, 2)
    assert looked == [1, 2]


def test_a_follower_that_waits_for_records_is_not_stuck() -> None:
    leader = leader_of_damaged(None)
    looked: list[int] = []
    leader.peers.on_stuck = lambda partition, offset: looked.append(offset)
    for _ in range(3 * REPEATS_SUSPECT):
        leader.fetch(2, COUNT)
    assert not looked


@pytest.mark.parametrize("number", range(COUNT))
def test_damage_in_what_is_asked_for_quarantines_the_log(number: int) -> None:
    partition = leader_of_damaged(number).partition
    asyncio.run(check_served(partition, 0))
    assert partition.log.is_quarantined


def test_what_is_sound_and_what_is_not_asked_for_is_left_alone() -> None:
    partition = leader_of_damaged(1).partition
    asyncio.run(check_served(partition, 2))
    assert partition.log.unusable is None


def test_who_leads_from_a_log_that_is_quarantined_leads_no_longer_and_says_so() -> None:
    failed: list[Partition] = []
    later: list[tuple[Any, ...]] = []
    replicas = new_replicas(
        on_storage_error=failed.append, call_soon=lambda *call: later.append(call)
    )
    state = LeaderAndIsrPartitionState(leader=1, leader_epoch=5, replicas=[1, 2], isr=[1, 2])
    assert replicas.lead("orders", TOPIC_ID, state) is ErrorCode.NONE
    partition = replicas.get("orders", 0)
    assert partition is not None
    partition.log.quarantine("somebody has looked")
    partition.log.quarantine("and somebody else")
    assert partition.is_leader, "whoever has met the damage is in the midst of something"
    assert len(later) == 1
    call, *arguments = later[0]
    call(*arguments)
    assert not partition.is_leader
    assert failed == [partition]
    assert replicas.is_offline("orders", 0)
    assert replicas.lead("orders", TOPIC_ID, state) is ErrorCode.KAFKA_STORAGE_ERROR
