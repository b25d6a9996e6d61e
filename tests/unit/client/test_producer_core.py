"""What a producer makes of topics that change under it, without a broker: scripted metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client.metadata import PartitionMetadata, TopicMetadata
from ottla.client.producer import core as core_module
from ottla.client.producer.core import TOPIC_IDLE_MS, ProducerCore
from ottla.client.producer.settings import producer_settings
from ottla.client.settings import ConnectionSettings
from ottla.errors import ErrorCode, KafkaError

SETTINGS = ConnectionSettings((("boot", 1),))
ID, NEXT_ID = b"1" * 16, b"2" * 16


class Scene:
    """A producer that never sends, and what it is told of topic ``t`` when it asks."""

    def __init__(self) -> None:
        self.core = ProducerCore(SETTINGS, producer_settings())
        self.answers: list[Callable[[], None]] = []
        self.core.cluster.refresh = self._refresh  # type: ignore[method-assign]

    async def _refresh(self) -> bool:
        self.answers.pop(0)()
        return True

    def topic(self, partitions: int, topic_id: bytes = ID) -> None:
        """The metadata name it."""
        metadata = self.core.cluster.metadata
        metadata.errors.pop("t", None)
        metadata.topics["t"] = TopicMetadata(
            "t",
            topic_id,
            False,
            {number: PartitionMetadata(number, 1, 0, (1,), (1,)) for number in range(partitions)},
        )

    def refused(self, code: ErrorCode) -> None:
        """The metadata have an error in its place."""
        self.core.cluster.metadata.errors["t"] = code

    def take(self, **fields: Any) -> Any:
        """What the intake says to a record."""
        names = ("key", "partition", "timestamp_ms", "headers", "on_delivery")
        return self.core.intake.take("t", b"v", *map(fields.get, names))


def play(scenario: Callable[[Scene], Any]) -> None:
    async def run() -> None:
        await scenario(Scene())

    asyncio.run(run())


def test_topic_that_was_forbidden_is_asked_for_again() -> None:
    async def scenario(scene: Scene) -> None:
        forbidden = lambda: scene.refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED)  # noqa: E731
        scene.answers = [forbidden, forbidden, lambda: scene.topic(1)]
        for _ in range(2):
            with pytest.raises(KafkaError) as caught:
                await scene.core.partitions_of("t")
            assert caught.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
        assert await scene.core.partitions_of("t") == 1

    play(scenario)


def test_impossible_name_is_not_asked_for_again() -> None:
    async def scenario(scene: Scene) -> None:
        scene.answers = [lambda: scene.refused(ErrorCode.INVALID_TOPIC_EXCEPTION)]
        for _ in range(2):
            with pytest.raises(KafkaError) as caught:
                await scene.core.partitions_of("t")
            assert caught.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION

    play(scenario)


def test_keys_go_to_the_partitions_of_a_topic_that_was_made_anew_with_fewer() -> None:
    async def scenario(scene: Scene) -> None:
        scene.topic(8)
        await scene.core.partitions_of("t")
        scene.topic(1, NEXT_ID)
        scene.core._metadata_changed()
        for number in range(20):
            scene.take(key=b"%d" % number)
        scene.take()
        assert {batch.partition for batch in scene.core.accumulator.incomplete} == {0}
        assert scene.take(partition=1) > 0  # who sends waits for it, up to max_block_ms

    play(scenario)


def test_broker_that_lags_behind_takes_no_partitions_away() -> None:
    async def scenario(scene: Scene) -> None:
        scene.topic(2)
        await scene.core.partitions_of("t")
        scene.topic(1)
        scene.core._metadata_changed()
        scene.take(partition=1)
        assert [batch.partition for batch in scene.core.accumulator.incomplete] == [1]

    play(scenario)


def test_records_without_a_key_leave_a_partition_that_is_there_no_more() -> None:
    async def scenario(scene: Scene) -> None:
        scene.topic(2)
        await scene.core.partitions_of("t")
        scene.core.accumulator._choose = lambda count: count - 1
        scene.core.accumulator.topics["t"].sticky._choose = lambda count: count - 1
        scene.take()
        scene.topic(1, NEXT_ID)
        scene.core._metadata_changed()
        scene.take()
        assert [batch.partition for batch in scene.core.accumulator.incomplete] == [1, 0]

    play(scenario)


def test_topic_that_nobody_writes_to_is_not_asked_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asking for it would make it anew after its deletion (auto.create.topics.enable)."""
    now_ms = 0
    monkeypatch.setattr(core_module, "now_ms", lambda: now_ms)

    async def scenario(scene: Scene) -> None:
        nonlocal now_ms
        core = scene.core
        scene.topic(1)
        await core.partitions_of("t")
        now_ms = TOPIC_IDLE_MS
        scene.take()
        core._metadata_changed()
        assert set(core.cluster._topics) == {"t"}
        now_ms += TOPIC_IDLE_MS + 1
        core._metadata_changed()
        assert set(core.cluster._topics) == {"t"}  # there is a record for it
        core.accumulator.abandon(KafkaError(ErrorCode.REQUEST_TIMED_OUT))
        core._metadata_changed()
        assert not core.cluster._topics

    play(scenario)
