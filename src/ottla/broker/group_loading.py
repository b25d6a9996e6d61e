"""The groups of the ``__consumer_offsets`` partitions that this broker leads: taken over, and given up.

Rules:
- Whoever leads a partition loads its groups before it answers for them; the controller's request does not wait
  for that. A leader that goes on in a later epoch has all that it had: nothing was truncated, nothing is loaded.
- What another leads is given up at once. News of an epoch that is behind what was heard change nothing.
- No session of a loaded member begins to run, and no group is answered for, before the broker has heard of the
  topic: how many partitions it has says which of them a group is in.
- Offsets of topics that are gone are not taken over: their deletion may have been cut short before its tombstones
  were written. A topic is gone when neither the metadata know it nor, marked for deletion or not there, the store:
  either alone may be behind.
- What could not be read is tried again.

Source: ``GroupCoordinatorService.onElection``, ``onResignation``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ottla.broker.internal_topics import CONSUMER_OFFSETS
from ottla.coordination import znodes
from ottla.coordination.store import NoNode, StoreError
from ottla.errors import KafkaError
from ottla.groups.coordinator import Coordinator
from ottla.logs import logger
from ottla.replication.internal_log import InternalLog

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.metadata_cache import MetadataCache
    from ottla.coordination.store import Store
    from ottla.groups.coordinator import LoadedRecord
    from ottla.groups.settings import GroupSettings

log = logger(__name__)

LOAD_RETRY_S = 30.0
"""Pause before groups that could not be read are loaded again."""


def coordinate_groups(
    broker: Broker, settings: GroupSettings, store: Callable[[], Store]
) -> GroupLoading:
    """A broker's coordinator of groups, and what keeps it up to date."""
    group_log = InternalLog(broker.replicas, CONSUMER_OFFSETS)
    groups = Coordinator(group_log, broker.clock, broker.loop, settings, broker.lease.is_over)
    return GroupLoading(groups, group_log, broker.metadata, store)


class ReadableLog(Protocol):
    """Where the records of a partition that is led are read."""

    def read(self, partition: int) -> AsyncIterator[Sequence[LoadedRecord]]:
        """Everything from the log's start to its end as of now; raises ``KafkaError``."""
        ...


class GroupLoading:
    """What the controller's requests mean for the coordinator. All of it on the loop."""

    def __init__(
        self,
        groups: Coordinator,
        group_log: ReadableLog,
        metadata: MetadataCache,
        store: Callable[[], Store],
    ) -> None:
        """``store`` gives the session of the moment."""
        self.groups = groups
        self._log = group_log
        self._metadata = metadata
        self._store = store
        self._loads: dict[int, asyncio.Task[None]] = {}
        self._knows_topic = asyncio.Event()

    def lead(self, partition: int, leader_epoch: int) -> None:
        """This broker leads the partition, from ``leader_epoch`` on."""
        if self.groups.goes_on(partition, leader_epoch):
            return
        self._end(partition)
        load = asyncio.create_task(
            self._load(partition, leader_epoch), name=f"load groups {partition}"
        )
        self._loads[partition] = load
        load.add_done_callback(lambda done: self._ended(partition, done))

    def resign(self, partition: int, leader_epoch: int | None = None) -> None:
        """Another leads the partition since ``leader_epoch``; None: it is not here any more."""
        if self.groups.unload(partition, leader_epoch):
            self._end(partition)

    def resign_all(self) -> None:
        """The broker's session is over: nothing is led any more."""
        for partition in self.groups.partitions | self._loads.keys():
            self.resign(partition)

    def metadata_changed(self) -> None:
        """The controller has told how the cluster is."""
        topic = self._metadata.topics.get(CONSUMER_OFFSETS)
        if topic is not None:
            self.groups.learn_partition_count(len(topic.partitions))
            self._knows_topic.set()

    async def close(self) -> None:
        """End loadings that are under way."""
        loads = list(self._loads.values())
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def _end(self, partition: int) -> None:
        load = self._loads.pop(partition, None)
        if load is not None:
            load.cancel()

    def _ended(self, partition: int, load: asyncio.Task[None]) -> None:
        if self._loads.get(partition) is load:
            del self._loads[partition]

    async def _load(self, partition: int, leader_epoch: int) -> None:
        while True:
            try:
                await self.groups.load(
                    partition, self._log.read(partition), self._gone, leader_epoch=leader_epoch
                )
                return
            except KafkaError as error:
                log.error("groups cannot be loaded", partition=partition, reason=str(error))
            except Exception as error:  # a read that failed; or ours to mend, but not in silence
                log.error("groups cannot be loaded", partition=partition, error=error)
            await asyncio.sleep(LOAD_RETRY_S)

    async def _gone(self, topics: frozenset[str]) -> frozenset[str]:
        """Which of these topics, found in the log, are no more."""
        await self._knows_topic.wait()
        unknown = sorted(topic for topic in topics if topic not in self._metadata.topics)
        if not unknown:
            return frozenset()
        store = self._store()
        try:
            try:
                marked = set(await store.children(znodes.DELETE_TOPICS))
            except NoNode:
                marked = set()
            stats = await asyncio.gather(*(store.exists(znodes.topic_path(t)) for t in unknown))
        except StoreError as error:
            log.warning("offsets of deleted topics may stay", reason=str(error))
            return frozenset()
        gone = {t for t, stat in zip(unknown, stats, strict=True) if stat is None or t in marked}
        return frozenset(gone - self._metadata.topics.keys())
