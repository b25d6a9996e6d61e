"""OffsetForLeaderEpoch: where an epoch ended, for a client that believes in the right leader (KIP-101, KIP-320)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.broker.store_place import STORE_FILE
from ottla.clock import SystemClock
from ottla.coordination.embedded import Keeper
from ottla.coordination.znodes import LeaderAndIsr, partition_state_path
from ottla.errors import ErrorCode
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from ottla.testing import Broker
from tests.broker.test_delete_records import delete_records
from tests.support.requests import create_topic, fetch, produce
from tests.support.wire import Wire, batch

FENCED, UNKNOWN = ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.UNKNOWN_LEADER_EPOCH
UNDEFINED = (0, -1, -1)


class Led:
    """A topic "a" whose leader was elected three times, with two records in each epoch but the last."""

    def __init__(self, wire: Wire, epochs: list[int]) -> None:
        self.wire = wire
        self.epochs = epochs

    def end_of(
        self,
        epoch: int,
        current: int = -1,
        *,
        topic: str = "a",
        partition: int = 0,
        version: int = 4,
        replica_id: int = -1,
    ) -> tuple[int, int, int]:
        """Error code, epoch and end offset of the answer."""
        asked = OffsetForLeaderPartition(
            partition=partition, current_leader_epoch=current, leader_epoch=epoch
        )
        request = OffsetForLeaderEpochRequest(
            replica_id=replica_id, topics=[OffsetForLeaderTopic(topic=topic, partitions=[asked])]
        )
        (found,) = self.wire.ask(request, version).topics[0].partitions
        assert found.partition == partition
        return found.error_code, found.leader_epoch, found.end_offset


def leader_epoch(wire: Wire) -> int:
    request = MetadataRequest(topics=[MetadataRequestTopic(name="a")])
    return int(wire.ask(request, 9).topics[0].partitions[0].leader_epoch)


async def raise_leader_epoch(data: Path) -> None:
    """As if the stopped broker's partition had been led by others twice: its leader's epoch is two more."""
    keeper = await Keeper.open(data / STORE_FILE, clock=SystemClock())
    try:
        store = await keeper.connect()
        path = partition_state_path("a", 0)
        (znode,) = await store.get_many([path])
        assert znode is not None
        state = LeaderAndIsr.decode(path, znode.data, znode.stat.version)
        await store.set(path, state._replace(leader_epoch=state.leader_epoch + 2).encode())
        await store.close()
    finally:
        await keeper.close()


@pytest.fixture
def led(tmp_path: Path) -> Iterator[Led]:
    epochs = []
    for life in range(3):
        if life:
            asyncio.run(raise_leader_epoch(tmp_path))
        with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
            if life == 0:
                create_topic(wire, "a")
            epochs.append(leader_epoch(wire))
            if life < 2:
                assert produce(wire, "a", batch(b"1", b"2")).error_code == 0
                continue
            assert sorted(set(epochs)) == epochs
            yield Led(wire, epochs)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_an_epoch_ends_where_the_next_one_begins(led: Led, version: int) -> None:
    first, second, current = led.epochs
    assert led.end_of(first, version=version) == (0, first, 2)
    assert led.end_of(second, version=version) == (0, second, 4)
    assert led.end_of(current, version=version) == (0, current, 4)  # the log's end: it goes on


def test_an_epoch_that_wrote_nothing_ends_with_the_one_before(led: Led) -> None:
    first, second, _ = led.epochs
    for between in range(first + 1, second):
        assert led.end_of(between) == (0, first, 2)


def test_of_an_epoch_to_come_or_of_none_nothing_is_known(led: Led) -> None:
    assert led.end_of(led.epochs[-1] + 1) == UNDEFINED
    assert led.end_of(-1) == UNDEFINED


def test_of_an_epoch_whose_records_are_gone_the_end_is_where_the_log_starts(led: Led) -> None:
    first, second, current = led.epochs
    assert delete_records(led.wire, "a", 3).error_code == 0
    assert led.end_of(first) == (0, first, 3)
    assert led.end_of(second) == (0, second, 4)
    assert led.end_of(current) == (0, current, 4)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_who_believes_in_another_leader_is_told(led: Led, version: int) -> None:
    first, _, current = led.epochs
    for believed, code in ((current, 0), (-1, 0), (first, FENCED), (current + 1, UNKNOWN)):
        answer = led.end_of(first, believed, version=version)
        assert answer == ((0, first, 2) if code == 0 else (code, -1, -1))
    assert led.end_of(first, -2, version=version)[0] == FENCED  # only -1 means "I do not know"


def test_fetch_and_list_offsets_are_fenced_alike(led: Led) -> None:
    first, _, current = led.epochs
    for believed, code in ((current, 0), (-1, 0), (first, FENCED), (-2, FENCED), (99, UNKNOWN)):
        assert fetch(led.wire, "a", 0, current_leader_epoch=believed).error_code == code
        wanted = ListOffsetsPartition(current_leader_epoch=believed, timestamp=-1)
        topic = ListOffsetsTopic(name="a", partitions=[wanted])
        answer = led.wire.ask(ListOffsetsRequest(replica_id=-1, topics=[topic]), 7)
        assert answer.topics[0].partitions[0].error_code == code


def test_partitions_that_do_not_exist_are_told(led: Led) -> None:
    assert led.end_of(0, topic="none") == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
    assert led.end_of(0, partition=9) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)


@pytest.mark.parametrize("replica_id", [-2, -1, 7])
def test_consumers_and_replicas_are_told_the_same(led: Led, replica_id: int) -> None:
    first = led.epochs[0]
    assert led.end_of(first, replica_id=replica_id) == (0, first, 2)
