"""Committed offsets while the metadata change underneath, and commits while others are under way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.client.consumer.commits import CommittedOffsets, Identity
from ottla.client.consumer.core import ConsumerCore
from ottla.client.consumer.positions import PartitionState
from ottla.client.consumer.settings import consumer_settings
from ottla.client.consumer.subscription import Listeners
from ottla.client.metadata import Metadata, TopicMetadata
from ottla.client.settings import ConnectionSettings
from ottla.client.types import OffsetAndMetadata, TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.offset_fetch import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)

TOPIC_ID = b"i" * 16
T0 = TopicPartition("t", 0)


def test_an_offset_of_a_topic_that_the_metadata_forget_meanwhile_is_not_missing() -> None:
    metadata = Metadata()
    metadata.topics["t"] = TopicMetadata("t", TOPIC_ID, False, {})
    answer = OffsetFetchResponse(
        groups=[
            OffsetFetchResponseGroup(
                topics=[
                    OffsetFetchResponseTopics(
                        topic_id=TOPIC_ID,
                        partitions=[
                            OffsetFetchResponsePartitions(partition_index=0, committed_offset=7)
                        ],
                    )
                ]
            )
        ]
    )

    async def call(request: Any, code_of: Any, *, timeout_ms: float) -> OffsetFetchResponse:
        request(SimpleNamespace(version_for=lambda key, versions=None: 10))
        metadata.keep_only([])
        return answer

    offsets = CommittedOffsets(
        cast("Any", SimpleNamespace(metadata=metadata)),
        cast("Any", SimpleNamespace(group="g", call=call)),
    )
    found = asyncio.run(offsets.fetch([TopicPartition("t", 0)], timeout_ms=1000))
    assert found == {TopicPartition("t", 0): OffsetAndMetadata(7)}


class Scene:
    """A member that owns t-0, was given 20 records, and is done with 15 of them; its coordinator is a list."""

    def __init__(self) -> None:
        self.core = ConsumerCore(ConnectionSettings((("nobody", 1),)), consumer_settings("g"))
        self.core.subscription.set_topics(["t"], Listeners())
        self.core.positions.assign([T0])
        self.state: PartitionState = self.core.positions.get(T0)
        self.state.seek(15, 3)
        self.state.handed_out(20, 3)
        self.commits: list[tuple[dict[TopicPartition, int], Identity]] = []
        self.hold: asyncio.Event | None = None
        self.error: KafkaError | None = None
        cast("Any", self.core).committed_offsets = self
        self.belong_to(4)

    def belong_to(self, generation_id: int) -> None:
        """The member is of this generation of its group."""
        member: Any = self.core.membership
        member._member_id, member._generation_id = "m", generation_id

    async def commit(
        self,
        offsets: dict[TopicPartition, OffsetAndMetadata],
        identity: Identity,
        *,
        timeout_ms: float,
    ) -> None:
        """What the coordinator is asked for, and does at once, or when it is let go."""
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.commits.append(({at: found.offset for at, found in offsets.items()}, identity))

    @property
    def offsets(self) -> list[int]:
        """What was committed of t-0, in its order."""
        return [offsets[T0] for offsets, _ in self.commits]


def test_auto_commit_takes_back_nothing_that_the_application_has_committed() -> None:
    """It is done with what it commits, though it has not asked for more yet."""

    async def play(committed: int) -> None:
        scene = Scene()
        await scene.core.commit({T0: OffsetAndMetadata(committed)}, 1_000)
        await scene.core._commit_passed()
        assert scene.offsets == [committed]
        scene.state.pass_handed_out()
        await scene.core._commit_passed()
        assert max(scene.offsets) == scene.offsets[-1] == 20

    for committed in (20, 18):
        asyncio.run(play(committed))


def test_what_was_not_committed_is_no_more_passed_than_before() -> None:
    async def play() -> None:
        scene = Scene()
        scene.error = KafkaError(ErrorCode.OFFSET_METADATA_TOO_LARGE, "no")
        with pytest.raises(KafkaError):
            await scene.core.commit({T0: OffsetAndMetadata(20)}, 1_000)
        assert scene.state.passed == 15

    asyncio.run(play())


def test_a_commit_behind_or_ahead_of_the_application_passes_nothing() -> None:
    """It may commit what it has read elsewhere, or what it wants to read again after the next start."""

    async def play() -> None:
        for offset in (3, 15, 21, 500):
            scene = Scene()
            await scene.core.commit({T0: OffsetAndMetadata(offset)}, 1_000)
            assert scene.state.passed == 15

    asyncio.run(play())


def test_an_auto_commit_behind_another_commit_takes_nothing_of_it_back() -> None:
    async def play() -> None:
        scene = Scene()
        scene.hold = asyncio.Event()
        asked = asyncio.ensure_future(scene.core.commit({T0: OffsetAndMetadata(20)}, 1_000))
        await asyncio.sleep(0)
        by_itself = asyncio.ensure_future(scene.core._commit_passed())
        await asyncio.sleep(0)
        scene.hold.set()
        await asyncio.gather(asked, by_itself)
        assert scene.offsets == [20]

    asyncio.run(play())


def test_a_commit_is_made_as_who_asked_for_it() -> None:
    """One that waits for another may be overtaken by a rebalance: its partitions may be somebody else's by then."""

    async def play() -> None:
        scene = Scene()
        scene.hold = asyncio.Event()
        first = asyncio.ensure_future(scene.core.commit({T0: OffsetAndMetadata(16)}, 1_000))
        await asyncio.sleep(0)
        scene.core.commit_later({T0: OffsetAndMetadata(17)}, None)
        third = asyncio.ensure_future(scene.core.commit({T0: OffsetAndMetadata(18)}, 1_000))
        await asyncio.sleep(0)
        scene.belong_to(5)
        scene.hold.set()
        await asyncio.gather(first, third, *scene.core._commits)
        assert [identity.generation_id for _, identity in scene.commits] == [4, 4, 4]
        assert scene.offsets == [16, 17, 18]

    asyncio.run(play())


def test_what_was_committed_of_a_partition_that_went_meanwhile_is_not_remembered() -> None:
    """Who gets it back may stand where it stood, with another's commit in between."""

    async def play() -> None:
        scene = Scene()
        scene.hold = asyncio.Event()
        asked = asyncio.ensure_future(scene.core.commit({T0: OffsetAndMetadata(20)}, 1_000))
        await asyncio.sleep(0)
        scene.core.positions.assign([])
        scene.hold.set()
        await asked
        scene.core.positions.assign([T0])
        scene.core.positions.get(T0).seek(20)
        await scene.core._commit_passed()
        assert scene.offsets == [20, 20]

    asyncio.run(play())
