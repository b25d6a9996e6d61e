"""What LeaderAndIsr, StopReplica and UpdateMetadata mean for the groups of a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from ottla.broker import group_loading
from ottla.broker.group_loading import GroupLoading
from ottla.broker.metadata_cache import MetadataCache
from ottla.clock import ManualClock
from ottla.coordination import znodes
from ottla.coordination.bootstrap import initial_layout
from ottla.coordination.embedded import Keeper
from ottla.errors import ErrorCode, KafkaError
from ottla.groups.coordinator import Commit, Coordinator, FetchedOffsets, LoadedRecord
from ottla.groups.group_records import Record, offset_record
from ottla.groups.offsets import CommittedOffset
from ottla.groups.settings import GroupSettings
from ottla.messages.update_metadata import (
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataTopicState,
)
from tests.support.waiting import eventually_true

PARTITIONS = 4


class Logs:
    """The topic in memory; a read may be held, or fail once."""

    def __init__(self) -> None:
        self.records: dict[int, list[Record]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.reads: list[int] = []

    def append(self, partition: int, records: Sequence[Record], now_ms: int) -> int:
        """Keep them."""
        log = self.records.setdefault(partition, [])
        log.extend(records)
        return len(log)

    def when_committed(self, partition: int, end_offset: int) -> asyncio.Future[None]:
        """Now."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    async def read(self, partition: int) -> AsyncIterator[Sequence[LoadedRecord]]:
        """All of it, once the gate is open."""
        self.reads.append(partition)
        if self.failures:
            self.failures -= 1
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
        await self.gate.wait()
        found = self.records.get(partition, [])
        yield [(key, value, offset, 0) for offset, (key, value) in enumerate(found)]


class Scene:
    """A broker's groups, its metadata and its store."""

    def __init__(self, keeper: Keeper, store: Any) -> None:
        self.keeper = keeper
        self.store = store
        self.log = Logs()
        self.metadata = MetadataCache()
        settings = GroupSettings(
            group_initial_rebalance_delay_ms=0, offsets_topic_num_partitions=50
        )
        clock = ManualClock()
        self.groups = Coordinator(self.log, clock, asyncio.get_running_loop(), settings)
        self.loading = GroupLoading(self.groups, self.log, self.metadata, lambda: store)

    def tell(self, **topics: int) -> None:
        """An UpdateMetadata with topics of so many partitions."""
        states = [
            UpdateMetadataTopicState(
                topic_name=name,
                topic_id=name.encode().ljust(16, b".")[:16],
                partition_states=[
                    UpdateMetadataPartitionState(partition_index=index, leader=0)
                    for index in range(count)
                ],
            )
            for name, count in topics.items()
        ]
        self.metadata.update(UpdateMetadataRequest(topic_states=states))
        self.loading.metadata_changed()

    def code(self, group: str = "g") -> ErrorCode:
        """What a group's client is told."""
        answer = self.groups.fetch_offsets(group, None)
        assert isinstance(answer, FetchedOffsets)
        return answer.error

    async def loaded(self, partition: int) -> None:
        """Wait for it."""

        async def owned() -> bool:
            return self.groups.owns(partition)

        await eventually_true(owned, "the partition's groups are loaded")

    async def close(self) -> None:
        """End all."""
        await self.loading.close()
        self.groups.close()
        await self.keeper.close()


def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    """Play a scenario."""

    async def main() -> None:
        keeper = await Keeper.open(initial=initial_layout("c" * 22))
        scene = Scene(keeper, await keeper.connect())
        try:
            await scenario(scene)
        finally:
            await scene.close()

    asyncio.run(main())


def offset_in(topic: str, offset: int) -> Record:
    """A record of what ``g`` committed."""
    return offset_record("g", topic, 0, CommittedOffset(offset, -1, "", 1))


def test_groups_are_answered_for_once_they_are_loaded_and_their_topic_is_known() -> None:
    async def scenario(scene: Scene) -> None:
        scene.log.gate.clear()
        assert scene.code() is ErrorCode.NOT_COORDINATOR
        for partition in range(PARTITIONS):
            scene.loading.lead(partition, 0)
        await asyncio.sleep(0)
        scene.log.gate.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(scene.groups.owns(partition) for partition in range(PARTITIONS))
        scene.tell(__consumer_offsets=PARTITIONS)
        for partition in range(PARTITIONS):
            await scene.loaded(partition)
        assert {scene.groups.partition_for(f"g{n}") for n in range(99)} == set(range(PARTITIONS))
        assert scene.code() is ErrorCode.NONE

    run(scenario)


def test_the_same_leader_in_a_later_epoch_loads_nothing_again_and_another_ends_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.tell(__consumer_offsets=1)
        scene.loading.lead(0, 1)
        await scene.loaded(0)
        scene.loading.lead(0, 2)
        assert scene.groups.owns(0)
        scene.loading.resign(0, 1)
        assert scene.groups.owns(0)
        scene.loading.resign(0, 3)
        assert scene.code() is ErrorCode.NOT_COORDINATOR
        scene.loading.lead(0, 4)
        await scene.loaded(0)
        assert scene.log.reads == [0, 0]
        scene.loading.resign_all()
        assert scene.code() is ErrorCode.NOT_COORDINATOR

    run(scenario)


def test_a_load_that_a_newer_epoch_overtakes_is_dropped() -> None:
    async def scenario(scene: Scene) -> None:
        scene.tell(__consumer_offsets=1, t=1)
        scene.log.records[0] = [offset_in("t", 1)]
        scene.log.gate.clear()
        scene.loading.lead(0, 1)
        await asyncio.sleep(0)
        assert scene.code() is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        scene.loading.resign(0, 2)
        scene.log.records[0] = [offset_in("t", 2)]
        scene.loading.lead(0, 3)
        await asyncio.sleep(0)
        scene.log.gate.set()
        await scene.loaded(0)
        answer = scene.groups.fetch_offsets("g", [("t", [0])])
        assert isinstance(answer, FetchedOffsets)
        found = answer.topics[0][1][0][1]
        assert found is not None
        assert found.offset == 2

    run(scenario)


def test_what_could_not_be_read_is_tried_again_unless_another_leads_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_loading, "LOAD_RETRY_S", 0.0)

    async def scenario(scene: Scene) -> None:
        scene.tell(__consumer_offsets=1)
        scene.log.failures = 2
        scene.loading.lead(0, 1)
        await scene.loaded(0)
        assert len(scene.log.reads) == 3
        scene.loading.resign(0, 2)
        scene.log.failures = 1_000_000
        scene.loading.lead(0, 3)
        for _ in range(5):
            await asyncio.sleep(0)
        scene.loading.resign(0, 4)
        await asyncio.sleep(0)
        reads = len(scene.log.reads)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(scene.log.reads) == reads

    run(scenario)


def test_a_leader_that_has_not_heard_of_a_topic_yet_keeps_its_offsets() -> None:
    """Of a new controller's first word, or of the store's, either may be behind: offsets are not lost to that."""

    async def scenario(scene: Scene) -> None:
        await scene.store.create(znodes.topic_path("new"))
        await scene.store.create(znodes.topic_path("doomed"))
        await scene.store.create(znodes.delete_topic_path("doomed"))
        names = ["new", "known", "doomed", "gone"]
        scene.log.records[0] = [offset_in(name, 5) for name in names]
        scene.tell(__consumer_offsets=1, known=1)
        scene.loading.lead(0, 0)
        await scene.loaded(0)
        answer = scene.groups.fetch_offsets("g", None)
        assert isinstance(answer, FetchedOffsets)
        assert sorted(topic for topic, _ in answer.topics) == ["known", "new"]

    run(scenario)


def test_groups_that_are_known_stay_in_their_partitions() -> None:
    async def scenario(scene: Scene) -> None:
        scene.tell(__consumer_offsets=1, t=1)
        scene.loading.lead(0, 0)
        await scene.loaded(0)
        committed = scene.groups.commit_offsets("g", "", None, -1, [Commit("t", 0, 5, -1, "")])
        assert committed == [ErrorCode.NONE]
        scene.tell(__consumer_offsets=PARTITIONS)
        assert {scene.groups.partition_for(f"g{n}") for n in range(99)} == {0}

    run(scenario)
