"""Brokers follow altered settings through the store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.controller import configs
from ottla.controller.configs import (
    CHANGE_EXPIRATION_MS,
    ConfigListener,
    read_configs,
    write_config,
)
from ottla.coordination import znodes
from ottla.coordination.store import ConnectionLoss


class Heard:
    """A broker's listener, and what it was told."""

    def __init__(self, cluster: Any, broker_id: int = 1) -> None:
        self.topics: list[tuple[str, dict[str, str]]] = []
        self.brokers: list[tuple[dict[str, str], dict[str, str]]] = []
        self.listener = ConfigListener(
            cluster.sessions[broker_id],
            broker_id,
            on_topic_config=lambda name, config: self.topics.append((name, config)),
            on_broker_config=lambda default, own: self.brokers.append((default, own)),
            clock=cluster.clock,
        )


async def become(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - a condition of any kind, not an event
        await asyncio.sleep(0)


async def alter(cluster: Any, entity_type: str, entity: str, **config: str) -> None:
    store = cluster.sessions[1]
    stored = (await read_configs(store, entity_type, [entity]))[entity]
    await store.multi(write_config(entity_type, entity, config, stored.version))


async def test_listener_starts_with_what_is_stored_and_hears_of_every_change(cluster: Any) -> None:
    await cluster.start(1)
    await alter(cluster, "brokers", "<default>", a="1")
    await alter(cluster, "brokers", "1", b="2")
    await alter(cluster, "topics", "orders", c="3")
    heard = Heard(cluster)
    await heard.listener.start()
    assert heard.brokers == [({"a": "1"}, {"b": "2"})]
    assert heard.topics == []
    await heard.listener.load_topics(["orders", "plain"])
    assert heard.listener.topic_config("orders") == {"c": "3"}
    assert heard.listener.topic_config("plain") == {}

    await alter(cluster, "topics", "orders", c="4")
    await become(lambda: heard.topics)
    await alter(cluster, "topics", "orders")
    await become(lambda: len(heard.topics) == 2)
    await alter(cluster, "brokers", "1", b="5")
    await become(lambda: len(heard.brokers) == 2)
    assert heard.topics == [("orders", {"c": "4"}), ("orders", {})]
    assert heard.brokers[1] == ({"a": "1"}, {"b": "5"})
    assert heard.listener.topic_config("orders") == {}
    await heard.listener.close()


async def test_listener_leaves_other_brokers_and_entities_alone(cluster: Any) -> None:
    await cluster.start(1)
    heard = Heard(cluster)
    await heard.listener.start()
    await alter(cluster, "brokers", "2", a="1")
    await alter(cluster, "users", "ann", a="1")
    await alter(cluster, "topics", "last", a="1")
    await become(lambda: heard.topics)
    assert len(heard.brokers) == 1
    await heard.listener.close()


async def test_changes_in_a_burst_are_all_heard_with_the_latest_settings(cluster: Any) -> None:
    await cluster.start(1)
    heard = Heard(cluster)
    await heard.listener.start()
    for number in range(20):
        await alter(cluster, "topics", f"topic-{number % 4}", value=str(number))
    await become(lambda: {name for name, _ in heard.topics} == {f"topic-{n}" for n in range(4)})
    latest = {f"topic-{n}": {"value": str(16 + n)} for n in range(4)}
    await become(lambda: dict(heard.topics) == latest)
    assert {name: heard.listener.topic_config(name) for name in latest} == latest
    await heard.listener.close()


async def test_what_cannot_be_read_is_passed_over(cluster: Any) -> None:
    await cluster.start(1)
    store = cluster.sessions[1]
    heard = Heard(cluster)
    await heard.listener.start()
    await store.create(znodes.CONFIG_CHANGE_PREFIX, b"nonsense", sequential=True)
    await store.create("/config/topics/broken", b"nonsense")
    await alter(cluster, "topics", "fine", a="1")
    await become(lambda: heard.topics)
    await heard.listener.load_topics(["broken"])
    assert heard.topics == [("fine", {"a": "1"})]
    assert heard.listener.topic_config("broken") == {}
    await heard.listener.close()


async def test_old_notifications_are_removed(cluster: Any) -> None:
    await cluster.start(1, 2)
    first, second = Heard(cluster, 1), Heard(cluster, 2)
    await first.listener.start()
    await second.listener.start()
    await alter(cluster, "topics", "orders", a="1")
    await become(lambda: first.topics and second.topics)
    cluster.clock.advance(CHANGE_EXPIRATION_MS + 1)
    await alter(cluster, "topics", "orders", a="2")
    await become(lambda: len(first.topics) == len(second.topics) == 2)
    names = await cluster.sessions[1].children(znodes.CONFIG_CHANGES)
    await asyncio.sleep(0)
    while len(names) != 1:
        names = await cluster.sessions[1].children(znodes.CONFIG_CHANGES)
    assert names == ["config_change_0000000001"]
    await first.listener.close()
    await second.listener.close()


async def test_listener_goes_on_after_the_store_gave_no_answer(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1)
    monkeypatch.setattr(configs, "RETRY_DELAY_S", 0)
    heard = Heard(cluster)
    await heard.listener.start()
    store = cluster.sessions[1]
    children, lost = store.children, []

    async def children_once_lost(path: str, **options: Any) -> list[str]:
        if not lost:
            lost.append(path)
            raise ConnectionLoss("no answer")
        names: list[str] = await children(path, **options)
        return names

    monkeypatch.setattr(store, "children", children_once_lost)
    await alter(cluster, "topics", "orders", a="1")
    await become(lambda: heard.topics)
    assert lost
    await heard.listener.close()


async def test_forgotten_topic_has_no_settings(cluster: Any) -> None:
    await cluster.start(1)
    heard = Heard(cluster)
    await alter(cluster, "topics", "orders", a="1")
    await heard.listener.load_topics(["orders"])
    heard.listener.forget_topic("orders")
    assert heard.listener.topic_config("orders") == {}
