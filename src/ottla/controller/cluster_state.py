"""What the controller knows of the cluster: live brokers, topics, assignments, leaders, deletions.

Rules: it is read from the store when a controller takes office and changed only after the store took
the same change. It decides nothing. Partition numbers need not be dense while a topic is half made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from ottla.controller.topic_names import collisions, unify_collision_characters
from ottla.coordination.znodes import BrokerRegistration, LeaderAndIsr, TopicAssignment
from ottla.topic_ids import ZERO_ID


class LiveBroker(NamedTuple):
    """A broker whose registration is in the store; ``epoch`` is that znode's czxid."""

    registration: BrokerRegistration
    epoch: int


class Topic:
    """One topic: its assignment, the version of its znode, and the state of each partition."""

    __slots__ = ("adding", "assignment", "name", "partitions", "removing", "topic_id", "version")

    def __init__(
        self, name: str, topic_id: bytes, assignment: dict[int, tuple[int, ...]], version: int
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.assignment = assignment
        self.version = version
        self.partitions: dict[int, LeaderAndIsr] = {}
        self.adding: dict[int, tuple[int, ...]] = {}
        """Replicas that partitions get by a reassignment under way; they are in ``assignment`` too."""
        self.removing: dict[int, tuple[int, ...]] = {}
        """Replicas that partitions lose by a reassignment under way; they are in ``assignment`` still."""

    @property
    def replication_factor(self) -> int:
        """Replicas of the first partition, as Kafka reports it."""
        return len(next(iter(self.assignment.values()), ()))

    def encode(self, assignment: Mapping[int, tuple[int, ...]] | None = None) -> bytes:
        """The topic's znode; with ``assignment``, as it will be."""
        topic_id = None if self.topic_id == ZERO_ID else self.topic_id
        replicas = self.assignment if assignment is None else assignment
        return TopicAssignment(topic_id, replicas, self.adding, self.removing).encode()


class PartitionId(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class ClusterState:
    """The controller's picture of the cluster under one controller epoch."""

    def __init__(self, controller_id: int, controller_epoch: int, epoch_version: int) -> None:
        self.controller_id = controller_id
        self.controller_epoch = controller_epoch
        self.epoch_version = epoch_version
        """The version of ``/controller_epoch`` that every write is conditional on."""
        self.brokers: dict[int, LiveBroker] = {}
        self.topics: dict[str, Topic] = {}
        self.deleting: set[str] = set()
        self.unreadable_topics: set[str] = set()
        """Topics that are in the store, and not in ``topics``: nobody can read what they are."""
        self.unreadable_partitions: set[PartitionId] = set()
        """Partitions that have a state in the store, which nobody can read, and none here."""
        self.shutting_down: set[int] = set()
        """Brokers that are registered still, and have asked to be let go of."""
        self.offline_replicas: dict[int, set[PartitionId]] = {}
        """By broker: what it holds in log directories that failed, as it answered LeaderAndIsr."""
        self.stale = False
        """The store may know better: a write's outcome is unknown, or somebody else has written."""
        self._names_by_id: dict[bytes, str] = {}
        self._names_by_unified: dict[str, set[str]] = {}

    def add_topic(self, topic: Topic) -> None:
        """A topic that the store has."""
        self.topics[topic.name] = topic
        if topic.topic_id != ZERO_ID:
            self._names_by_id[topic.topic_id] = topic.name
        unified = unify_collision_characters(topic.name)
        self._names_by_unified.setdefault(unified, set()).add(topic.name)

    def remove_topic(self, name: str) -> None:
        """A topic that the store has no more."""
        self.deleting.discard(name)
        self.unreadable_partitions = {p for p in self.unreadable_partitions if p.topic != name}
        for offline in self.offline_replicas.values():
            offline -= {partition for partition in offline if partition.topic == name}
        topic = self.topics.pop(name, None)
        if topic is None:
            return
        self._names_by_id.pop(topic.topic_id, None)
        unified = unify_collision_characters(name)
        names = self._names_by_unified[unified]
        names.discard(name)
        if not names:
            del self._names_by_unified[unified]

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        """The topic with this id, if there is one."""
        name = self._names_by_id.get(topic_id)
        return self.topics.get(name) if name is not None else None

    def colliding_topics(self, name: str) -> list[str]:
        """Topics whose names differ from ``name`` only by ``.`` and ``_``."""
        return collisions(name, self._names_by_unified.get(unify_collision_characters(name), ()))

    def partition_ids(self, topics: Collection[str] | None = None) -> Iterator[PartitionId]:
        """All assigned partitions of ``topics`` (of all, if None)."""
        for name in self.topics if topics is None else topics:
            for partition in self.topics[name].assignment:
                yield PartitionId(name, partition)

    def assignment(self, partition: PartitionId) -> tuple[int, ...]:
        """The partition's replicas, the preferred leader first."""
        return self.topics[partition.topic].assignment[partition.partition]

    def leader_and_isr(self, partition: PartitionId) -> LeaderAndIsr | None:
        """The partition's state; None before its first leader is elected."""
        return self.topics[partition.topic].partitions.get(partition.partition)

    def is_reachable(self, broker_id: int, partition: PartitionId) -> bool:
        """Whether the broker is registered and its replica in a log directory that works."""
        return broker_id in self.brokers and partition not in self.offline_replicas.get(
            broker_id, ()
        )

    def is_online(self, broker_id: int, partition: PartitionId) -> bool:
        """Whether the replica can lead: it is reachable, and its broker not about to stop."""
        return broker_id not in self.shutting_down and self.is_reachable(broker_id, partition)

    def is_led(self, partition: PartitionId, leader: int) -> bool:
        """Whether ``leader`` is a replica of the partition, and online."""
        return leader in self.assignment(partition) and self.is_online(leader, partition)

    def online(self, partition: PartitionId) -> set[int]:
        """The brokers whose replicas of ``partition`` can lead."""
        return {
            broker_id
            for broker_id in self.assignment(partition)
            if self.is_online(broker_id, partition)
        }

    def is_alive(self, broker_id: int) -> bool:
        """Whether the broker is registered, and not about to stop."""
        return broker_id in self.brokers and broker_id not in self.shutting_down

    def live_brokers(self) -> set[int]:
        """All brokers that are alive."""
        return self.brokers.keys() - self.shutting_down

    def is_unclean(self, broker_id: int) -> bool:
        """Whether the broker is registered as one that may have lost unsynced data (invariant 20)."""
        live = self.brokers.get(broker_id)
        return live is not None and live.registration.unclean

    def may_lack(self, broker_id: int, partition: PartitionId) -> bool:
        """Whether the broker is registered as one whose replica of ``partition`` may lack what it acknowledged."""
        live = self.brokers.get(broker_id)
        return live is not None and (
            live.registration.unclean or partition in live.registration.short
        )

    def partitions_on(self, broker_ids: Collection[int]) -> list[PartitionId]:
        """The partitions with a replica on one of these brokers, those being deleted aside."""
        wanted = set(broker_ids)
        return [
            PartitionId(name, index)
            for name, topic in self.topics.items()
            if name not in self.deleting
            for index, replicas in topic.assignment.items()
            if not wanted.isdisjoint(replicas)
        ]

    def reassigning(self, partition: PartitionId) -> bool:
        """Whether a reassignment of the partition is under way."""
        topic = self.topics[partition.topic]
        return bool(
            topic.adding.get(partition.partition) or topic.removing.get(partition.partition)
        )

    def target(self, partition: PartitionId) -> tuple[int, ...]:
        """The replicas that the partition is to have in the end."""
        removing = self.topics[partition.topic].removing.get(partition.partition, ())
        return tuple(replica for replica in self.assignment(partition) if replica not in removing)
