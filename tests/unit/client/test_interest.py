"""Which topics a client asks for: the question has a broker make those that are not there (auto.create.topics.enable)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ottla.client.cluster import Cluster
from ottla.client.consumer.consumer import AsyncConsumer
from ottla.client.consumer.core import ConsumerCore
from ottla.client.consumer.offset_queries import list_offsets
from ottla.client.consumer.settings import consumer_settings
from ottla.client.consumer.subscription import Listeners
from ottla.client.errors import NoBrokerAvailable, RequestTimeout
from ottla.client.types import TopicPartition
from tests.unit.client.test_failover import SETTINGS


def asked_for(cluster: Cluster) -> list[str]:
    """The topics of the next question."""
    request = cluster._metadata_request(cast("Any", None))
    return [topic.name or "" for topic in request.topics or []]


def core_without_a_broker(group: str | None = None) -> ConsumerCore:
    core = ConsumerCore(SETTINGS, consumer_settings(group))
    core._started = True  # nobody is asked
    return core


def test_topic_is_not_asked_for_after_an_unsubscribe() -> None:
    async def play() -> None:
        core = core_without_a_broker()
        await core.subscribe(["t"], None, Listeners())
        assert asked_for(core.cluster) == ["t"]
        await core.unsubscribe()
        assert asked_for(core.cluster) == []

    asyncio.run(play())


def test_topic_is_not_asked_for_when_others_are_assigned_by_hand() -> None:
    async def play() -> None:
        core = core_without_a_broker()
        await core.assign([TopicPartition("t", 0)])
        await core.assign([TopicPartition("u", 0)])
        assert asked_for(core.cluster) == ["u"]

    asyncio.run(play())


def test_leader_of_a_group_asks_for_the_topics_of_the_others_too() -> None:
    async def play() -> None:
        core = core_without_a_broker("g")
        membership = core.membership
        assert membership is not None
        core.subscription.set_topics(["t"], Listeners())
        membership._group_topics = {"t": 1, "u": 1}
        core._set_assignment([TopicPartition("t", 0)])
        assert asked_for(core.cluster) == ["t", "u"]
        await membership.leave("it ends")
        core._set_assignment([])
        assert asked_for(core.cluster) == ["t"]

    asyncio.run(play())


def test_topic_is_asked_for_only_while_a_question_about_its_offsets_has_no_answer() -> None:
    async def play() -> None:
        cluster = Cluster(SETTINGS)
        timestamps = dict.fromkeys([TopicPartition("t", 0), TopicPartition("t", 1)], -1)
        for _ in range(2):  # two at a time
            question = asyncio.ensure_future(list_offsets(cluster, timestamps, timeout_ms=10_000))
            await asyncio.sleep(0)
            assert asked_for(cluster) == ["t"]
        again = asyncio.ensure_future(list_offsets(cluster, timestamps, timeout_ms=0))
        with pytest.raises(RequestTimeout):
            await again
        assert asked_for(cluster) == ["t"]
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, question, return_exceptions=True)
        assert asked_for(cluster) == []

    asyncio.run(play())


def test_topic_is_not_asked_for_once_its_number_of_partitions_was_told() -> None:
    async def play() -> None:
        consumer = AsyncConsumer("host:1")
        core = consumer._core
        core._started = True
        with pytest.raises(NoBrokerAvailable):
            await consumer.partitions_for("t", timeout=0)
        assert asked_for(core.cluster) == []

    asyncio.run(play())
