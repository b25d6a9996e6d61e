"""When the taking of records is to bring a Fetch about, and when one is on its way already."""

from __future__ import annotations

import asyncio
from typing import Any

from ottla.client.consumer.core import ConsumerCore
from ottla.client.consumer.fetcher import BUFFERED_ANSWERS
from ottla.client.consumer.settings import MAX_PARTITION_FETCH_BYTES, consumer_settings
from ottla.client.types import TopicPartition
from ottla.network.framing import FrameMemory
from ottla.records.builder import build_batch
from tests.unit.client.test_failover import SETTINGS, Scene

ANSWER_BYTES = 80


def records_at(offset: int) -> bytes:
    return bytes(build_batch([(1, None, b"v%d" % offset, ())] * 5, base_offset=offset))


async def buffer(scene: Scene, answers: int) -> None:
    """So many answers of five records lie ready."""
    scene.fetcher.maintain()
    for number in range(answers):
        await scene.answer(1, records=records_at(100 + 5 * number))
    assert len(scene.fetcher.completed) == answers


def take_all(scene: Scene, count: int) -> tuple[int, bool]:
    chunks, freed = scene.fetcher.take(count)
    return sum(len(chunk.records) for chunk in chunks), freed


def run(work: Any) -> None:
    asyncio.run(work())


def test_the_next_fetch_leaves_when_an_answer_comes_and_not_when_it_is_used_up() -> None:
    async def work() -> None:
        scene = Scene()
        await buffer(scene, 1)
        assert scene.asked() == [1]
        assert take_all(scene, 10) == (5, False)

    run(work)


def test_two_answers_are_enough_and_room_for_a_third_is_told_once() -> None:
    async def work() -> None:
        scene = Scene()
        await buffer(scene, 2)
        assert scene.asked() == []
        assert take_all(scene, 3) == (3, False)
        assert take_all(scene, 2) == (2, True)
        scene.fetcher.maintain()
        assert scene.asked() == [1]
        assert take_all(scene, 10) == (5, False)

    run(work)


def test_room_within_fetch_max_bytes_is_told() -> None:
    async def work() -> None:
        scene = Scene(fetch_max_bytes=ANSWER_BYTES)
        await buffer(scene, 1)
        assert scene.asked() == []
        assert take_all(scene, 10) == (5, True)
        scene.fetcher.maintain()
        assert scene.asked() == [1]

    run(work)


def test_what_is_paused_uses_up_no_room() -> None:
    async def work() -> None:
        scene = Scene(fetch_max_bytes=ANSWER_BYTES)
        await buffer(scene, 1)
        scene.state.paused = True
        other = TopicPartition("t", 1)
        scene.positions.assign([scene.state.topic_partition, other])
        scene.cluster.metadata.topics["t"].partitions[1] = scene.cluster.metadata.topics[
            "t"
        ].partitions[0]
        scene.positions.get(other).seek(0)
        scene.fetcher.maintain()
        assert scene.asked() == [1]

    run(work)


def test_a_pause_makes_room_for_the_others() -> None:
    async def work() -> None:
        scene = Scene(fetch_max_bytes=ANSWER_BYTES)
        await buffer(scene, 1)
        other = TopicPartition("t", 1)
        scene.positions.assign([scene.state.topic_partition, other])
        leaders = scene.cluster.metadata.topics["t"].partitions
        leaders[1] = leaders[0]
        scene.positions.get(other).seek(0)
        scene.fetcher.maintain()
        assert scene.asked() == []
        core = ConsumerCore(SETTINGS, consumer_settings(None))
        core.positions, core.fetcher = scene.positions, scene.fetcher
        core.pause([scene.state.topic_partition])
        assert scene.asked() == [1]

    run(work)


def test_answers_of_the_default_size_use_the_same_memory_again() -> None:
    """Two that are buffered and one that is read; new memory costs as much as reading into it."""
    memory = FrameMemory()
    size = MAX_PARTITION_FETCH_BYTES + 1000
    held = [memory.take(size) for _ in range(BUFFERED_ANSWERS + 1)]
    places = {id(frame.obj) for frame in held}
    assert len(places) == BUFFERED_ANSWERS + 1
    for index in range(10):
        held.pop(0)
        held.append(memory.take(size))
        assert id(held[-1].obj) in places, index
