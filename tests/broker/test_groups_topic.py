"""``__consumer_offsets`` as a topic: who may write to it, and how groups find their part of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ottla.broker import group_loading
from ottla.broker.store_place import STORE_FILE
from ottla.coordination import znodes
from ottla.coordination.embedded import Keeper
from ottla.errors import ErrorCode
from ottla.groups.partitioner import partition_for
from ottla.messages.delete_topics import DeleteTopicsRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
)
from ottla.replication.internal_log import InternalLog, LoadedRecord
from ottla.testing import Broker
from tests.support.requests import create_topic, list_offset, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch

GROUPS = [f"group {number}" for number in range(12)]


def coordinator(wire: Wire, *groups: str) -> list[int]:
    request = FindCoordinatorRequest(coordinator_keys=list(groups))
    return [found.error_code for found in wire.ask(request, 4).coordinators]


def when_loaded(wire: Wire, request: Any, version: int, code_of: Any) -> Any:
    """Ask until the group's coordinator has loaded it."""
    while True:
        answer = wire.ask(request, version)
        if code_of(answer) != ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            return answer


def commit(wire: Wire, group: str, offset: int) -> int:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    topics = [OffsetCommitRequestTopic(name="t", partitions=[partition])]
    request = OffsetCommitRequest(group_id=group, topics=topics)
    answer = when_loaded(wire, request, 7, lambda a: a.topics[0].partitions[0].error_code)
    code: int = answer.topics[0].partitions[0].error_code
    return code


def committed(wire: Wire, group: str) -> int:
    topics = [OffsetFetchRequestTopic(name="t", partition_indexes=[0])]
    request = OffsetFetchRequest(group_id=group, topics=topics)
    answer = when_loaded(wire, request, 7, lambda a: a.error_code)
    assert answer.error_code == 0
    offset: int = answer.topics[0].partitions[0].committed_offset
    return offset


def test_clients_cannot_write_into_the_groups_topic(wire: Wire) -> None:
    assert coordinator(wire, "g") == [0]
    topic = "__consumer_offsets"
    answer = produce(wire, topic, batch(b"junk", key=b"junk"))
    assert answer.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert list_offset(wire, topic, -1).offset == 0


def test_groups_stay_where_they_are_when_the_setting_for_new_topics_changes(tmp_path: Path) -> None:
    name = "offsets.topic.num.partitions"
    for partitions in (5, 50, 2):
        with Broker({name: partitions}, data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
            if partitions == 5:
                create_topic(wire, "t")
            assert coordinator(wire, *GROUPS) == [0] * len(GROUPS)
            for number, group in enumerate(GROUPS):
                if partitions == 5:
                    assert commit(wire, group, number) == 0
                assert committed(wire, group) == number


def test_groups_hash_to_the_partitions_that_their_topic_has_whoever_made_it(wire: Wire) -> None:
    create_topic(wire, "t")
    create_topic(wire, "__consumer_offsets", partitions=1)
    assert any(partition_for(group, 50) for group in GROUPS)
    wait_until(lambda: coordinator(wire, *GROUPS) == [0] * len(GROUPS))
    for group in GROUPS:
        wait_until(lambda group=group: commit(wire, group, 1) == 0)
        assert committed(wire, group) == 1


def test_the_groups_topic_can_be_deleted_and_comes_back_empty(wire: Wire) -> None:
    create_topic(wire, "t")
    assert coordinator(wire, "g") == [0]
    assert commit(wire, "g", 7) == 0
    request = DeleteTopicsRequest(topic_names=["__consumer_offsets"], timeout_ms=9000)
    assert wire.ask(request, 5).responses[0].error_code == 0
    assert commit(wire, "g", 8) == ErrorCode.NOT_COORDINATOR
    assert coordinator(wire, "g") == [0]
    assert committed(wire, "g") == -1
    assert commit(wire, "g", 9) == 0
    assert committed(wire, "g") == 9


def test_a_deletion_that_a_crash_cut_short_takes_the_offsets_too(tmp_path: Path) -> None:
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert coordinator(wire, "g") == [0]
        assert commit(wire, "g", 7) == 0

    async def mark_for_deletion() -> None:
        keeper = await Keeper.open(tmp_path / STORE_FILE)
        store = await keeper.connect()
        await store.create(znodes.delete_topic_path("t"))
        await keeper.close()

    asyncio.run(mark_for_deletion())
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert committed(wire, "g") == -1
        assert commit(wire, "g", 1) == 0
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        assert committed(wire, "g") == 1


def test_groups_that_could_not_be_read_once_are_loaded_when_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert coordinator(wire, "g") == [0]
        assert commit(wire, "g", 7) == 0
    right, refused = InternalLog.read, set[int]()

    async def failing(self: InternalLog, partition: int) -> AsyncIterator[Sequence[LoadedRecord]]:
        if partition not in refused:
            refused.add(partition)
            raise OSError("too many open files")
        async for chunk in right(self, partition):
            yield chunk

    monkeypatch.setattr(InternalLog, "read", failing)
    monkeypatch.setattr(group_loading, "LOAD_RETRY_S", 0.01)
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        wait_until(lambda: commit(wire, "g", 8) == 0)
        assert committed(wire, "g") == 8
        assert len(refused) == 50
