"""Settings in the store: read them, alter them under a condition, and hear of what others altered.

Rules: an alteration and its notification are one multi, conditional on the version that was read and on the
controller epoch. A listener hears of every alteration after its ``start`` at least once, in order, with the
settings as they are when it hears; notifications are removed once they are 15 minutes old, as in Kafka's
``ZkNodeChangeNotificationListener``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ottla.clock import Clock, SystemClock
from ottla.coordination import znodes
from ottla.coordination.store import (
    ConnectionLoss,
    Create,
    Delete,
    NoNode,
    Operation,
    Set,
    Store,
    StoreError,
    WatchEvent,
)
from ottla.coordination.znodes import DEFAULT_ENTITY, MalformedZnode
from ottla.errors import ErrorCode
from ottla.logs import logger

log = logger(__name__)

TOPICS = "topics"
BROKERS = "brokers"
CLIENT_METRICS = "client-metrics"

CHANGE_EXPIRATION_MS = 15 * 60 * 1000
"""Age at which a notification is removed: every live listener has long seen it."""


RETRY_DELAY_S = 0.5
"""Pause before the changes are read again after the store gave no answer."""


class ConfigAlteration(NamedTuple):
    """A change of one entity's settings.

    ``alter`` takes what is stored and returns what to store, or raises KafkaError. ``entity_type`` is
    "topics", "brokers" or "client-metrics"; a broker's entity is its id, or ``<default>`` for all brokers.
    """

    entity_type: str
    entity: str
    alter: Callable[[dict[str, str]], Mapping[str, str]]


class ConfigResult(NamedTuple):
    """What became of an alteration."""

    entity_type: str
    entity: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class StoredConfig(NamedTuple):
    """An entity's settings and the version of their znode; None if there is none yet."""

    config: dict[str, str]
    version: int | None


async def read_config(store: Store, entity_type: str, entity: str) -> StoredConfig:
    """The settings of one entity."""
    return (await read_configs(store, entity_type, (entity,)))[entity]


async def read_configs(
    store: Store, entity_type: str, entities: Iterable[str]
) -> dict[str, StoredConfig]:
    """The settings of many entities, read in one go. One that can't be read is empty, and logged."""
    names = list(entities)
    paths = [znodes.config_path(entity_type, name) for name in names]
    found: dict[str, StoredConfig] = {}
    for name, path, znode in zip(names, paths, await store.get_many(paths), strict=True):
        if znode is None:
            found[name] = StoredConfig({}, None)
            continue
        try:
            found[name] = StoredConfig(znodes.decode_config(path, znode.data), znode.stat.version)
        except MalformedZnode as error:
            log.error("settings in the store can't be read", reason=str(error))
            found[name] = StoredConfig({}, znode.stat.version)
    return found


def write_config(
    entity_type: str, entity: str, config: Mapping[str, str], version: int | None
) -> list[Operation]:
    """Store settings over those of ``version``, and notify the listeners.

    A subscription to client metrics that has none left is gone: nothing else says that it is there.
    """
    path, data = znodes.config_path(entity_type, entity), znodes.encode_config(config)
    change: Operation = Create(path, data) if version is None else Set(path, data, version)
    if entity_type == CLIENT_METRICS and not config:
        if version is None:
            return []
        change = Delete(path, version)
    return [
        change,
        Create(
            znodes.CONFIG_CHANGE_PREFIX,
            znodes.encode_config_change(entity_type, entity),
            sequential=True,
        ),
    ]


class ConfigListener:
    """Keeps a broker's settings, and those of its topics, as they are in the store."""

    def __init__(
        self,
        store: Store,
        broker_id: int,
        *,
        on_topic_config: Callable[[str, dict[str, str]], None],
        on_broker_config: Callable[[dict[str, str], dict[str, str]], None],
        clock: Clock | None = None,
    ) -> None:
        """``on_topic_config(name, overrides)``; ``on_broker_config(of all brokers, of this one)``."""
        self._store = store
        self._broker = str(broker_id)
        self._on_topic_config = on_topic_config
        self._on_broker_config = on_broker_config
        self._clock = clock or SystemClock()
        self._last_change = -1
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._topics: dict[str, dict[str, str]] = {}
        self._loaded: set[str] = set()
        self._broker_configs: dict[str, dict[str, str]] = {DEFAULT_ENTITY: {}, self._broker: {}}
        self._task: asyncio.Task[None] | None = None
        self.client_metrics: dict[str, dict[str, str]] = {}
        """The settings of every client-metrics subscription, by its name."""
        self.client_metrics_version = 0
        """Rises with every change of them."""

    async def start(self) -> None:
        """Read the broker's settings, hand them over, and follow every change from now on.

        Topics' settings are read by ``load_topics`` when the broker gets to know the topics.
        """
        names = await self._store.children(znodes.CONFIG_CHANGES, watch=self._on_watch)
        self._last_change = max((_number(name) for name in names), default=-1)
        read = await read_configs(self._store, BROKERS, self._broker_configs)
        self._broker_configs = {name: stored.config for name, stored in read.items()}
        self._tell_broker()
        try:
            names = await self._store.children(znodes.CLIENT_METRICS_CONFIG)
        except NoNode:
            names = []
        read = await read_configs(self._store, CLIENT_METRICS, names) if names else {}
        self.client_metrics = {name: stored.config for name, stored in read.items()}
        self._task = asyncio.create_task(self._follow(), name="config listener")

    async def go_on(self, store: Store) -> None:
        """Follow by another session, and catch up with what was altered since the last. Raises StoreError."""
        await self.close()
        self._store = store
        await self.start()
        async with self._turn:
            for name, stored in (await read_configs(store, TOPICS, self._loaded)).items():
                if stored.config != self.topic_config(name):
                    self._remember(name, stored.config)
                    self._on_topic_config(name, stored.config)
        self.client_metrics_version += 1

    async def close(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def load_topics(self, names: Iterable[str]) -> None:
        """Read the settings of topics into ``topic_config``: before their logs are opened."""
        async with self._turn:  # a change that is heard of meanwhile is newer, and comes after
            for name, stored in (await read_configs(self._store, TOPICS, names)).items():
                self._loaded.add(name)
                self._remember(name, stored.config)

    def forget_topic(self, name: str) -> None:
        """The topic is gone."""
        self._loaded.discard(name)
        self._topics.pop(name, None)

    def topic_config(self, name: str) -> dict[str, str]:
        """The overrides of a topic as last heard of."""
        return self._topics.get(name, {})

    def _remember(self, name: str, config: dict[str, str]) -> None:
        if config:
            self._topics[name] = config
        else:
            self._topics.pop(name, None)

    def _tell_broker(self) -> None:
        configs = self._broker_configs
        self._on_broker_config(configs[DEFAULT_ENTITY], configs[self._broker])

    def _on_watch(self, event: WatchEvent) -> None:
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.settle()
            except ConnectionLoss as error:
                log.warning("changes of settings can't be read now", reason=str(error))
                await asyncio.sleep(RETRY_DELAY_S)
                self._changed.set()
            except StoreError as error:
                log.error("changes of settings are not followed any more", reason=str(error))
                return

    async def settle(self) -> None:
        """Take in all that is altered by now, so that the broker goes by it. Raises StoreError."""
        async with self._turn:
            # The watch is set again before the changes are read, so that none falls in between.
            names = await self._store.children(znodes.CONFIG_CHANGES, watch=self._on_watch)
            await self._take_in(sorted(names, key=_number))

    async def _take_in(self, names: list[str]) -> None:
        paths = [f"{znodes.CONFIG_CHANGES}/{name}" for name in names]
        changed: dict[tuple[str, str], None] = {}
        expired: list[str] = []
        for name, path, znode in zip(names, paths, await self._store.get_many(paths), strict=True):
            if znode is None:
                continue
            if self._clock.now_ms() - znode.stat.ctime_ms > CHANGE_EXPIRATION_MS:
                expired.append(path)
            if _number(name) > self._last_change:
                self._last_change = _number(name)
                try:
                    changed[znodes.decode_config_change(path, znode.data)] = None
                except MalformedZnode as error:
                    log.error("a change of settings can't be read", reason=str(error))
        for entity_type, entity in changed:
            await self._apply(entity_type, entity)
        for path in expired:
            try:
                await self._store.delete(path)
            except NoNode:  # another broker's listener was first
                continue

    async def _apply(self, entity_type: str, entity: str) -> None:
        if entity_type == TOPICS:
            config = (await read_config(self._store, TOPICS, entity)).config
            self._remember(entity, config)
            self._on_topic_config(entity, config)
        elif entity_type == BROKERS and entity in self._broker_configs:
            self._broker_configs[entity] = (await read_config(self._store, BROKERS, entity)).config
            self._tell_broker()
        elif entity_type == CLIENT_METRICS:
            config = (await read_config(self._store, CLIENT_METRICS, entity)).config
            self.client_metrics.pop(entity, None)
            if config:
                self.client_metrics[entity] = config
            self.client_metrics_version += 1


def _number(name: str) -> int:
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1
