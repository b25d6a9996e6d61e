"""What this broker knows of the cluster: brokers, topics, who leads what. Sans-IO.

Changed only by the controller's UpdateMetadata; read by almost every handler. A topic is known by its name
and by its id: a topic that was deleted and made again has a new id, and the old one is unknown
(KAFKA-12257). Of what is told of a partition, nothing that is of an earlier leader epoch is taken in. An update
that is *full* names every topic that there is; of one that it names without partitions it says no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataTopicState
from ottla.topic_ids import ZERO_ID

INTERNAL_TOPICS = frozenset(("__consumer_offsets", "__transaction_state"))

STEP_PARTITIONS = 500
"""How many partitions are taken in before others may have their turn: less than a millisecond."""

FULL = 2
"""The type of an UpdateMetadata that names all topics."""

DELETED = -2
"""The leader that UpdateMetadata names for a partition that is being deleted (``LeaderDuringDelete``)."""


class Endpoint(NamedTuple):
    """Where a broker's listener is reached."""

    host: str
    port: int


class LiveBroker(NamedTuple):
    """A broker that is up."""

    node_id: int
    rack: str | None
    endpoints: dict[str, Endpoint]
    """By listener name."""


class PartitionMetadata(NamedTuple):
    """A partition as clients are told of it."""

    leader: int
    leader_epoch: int
    replicas: list[int]
    isr: list[int]
    offline_replicas: list[int]


class TopicMetadata:
    """A topic and its partitions, by index."""

    __slots__ = ("name", "partitions", "topic_id")

    def __init__(self, name: str, topic_id: bytes) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions: dict[int, PartitionMetadata] = {}

    @property
    def is_internal(self) -> bool:
        """Whether the broker keeps its own state in it."""
        return self.name in INTERNAL_TOPICS


class MetadataCache:
    """The cluster as of the last UpdateMetadata."""

    def __init__(self) -> None:
        self.brokers: dict[int, LiveBroker] = {}
        self.topics: dict[str, TopicMetadata] = {}
        self.controller_id = -1
        self._names: dict[bytes, str] = {}

    def topic_name(self, topic_id: bytes) -> str | None:
        """The name of the topic with this id, or None."""
        return self._names.get(topic_id)

    def topic_id(self, name: str) -> bytes | None:
        """The id of the topic with this name, or None."""
        topic = self.topics.get(name)
        return topic.topic_id if topic is not None else None

    def has_partition(self, name: str, index: int) -> bool:
        """Whether the topic exists and has this partition."""
        topic = self.topics.get(name)
        return topic is not None and index in topic.partitions

    def leader_of(self, name: str, index: int) -> int | None:
        """The node that leads the partition; None where there is no such partition."""
        topic = self.topics.get(name)
        partition = topic.partitions.get(index) if topic is not None else None
        return partition.leader if partition is not None else None

    def update(self, request: UpdateMetadataRequest) -> list[str]:
        """Take in the controller's news; returns the names of the topics that are gone."""
        return [gone.name for gone in self.update_in_steps(request) if gone is not None]

    def update_in_steps(self, request: UpdateMetadataRequest) -> Iterator[TopicMetadata | None]:
        """As ``update``, some partitions in each step, which yields a topic that is gone, or None.

        There may be another topic of its name by then.
        """
        self.controller_id = request.controller_id
        if request.live_brokers:
            self.brokers = {
                broker.id: LiveBroker(
                    broker.id,
                    broker.rack,
                    {e.listener: Endpoint(e.host, e.port) for e in broker.endpoints},
                )
                for broker in request.live_brokers
            }
        if request.type == FULL:
            named = {state.topic_name for state in request.topic_states}
            for topic in [topic for name, topic in self.topics.items() if name not in named]:
                self._forget(topic)
                yield topic
        for state in request.topic_states:
            yield from self._take_in(state)

    def _take_in(self, state: UpdateMetadataTopicState) -> Iterator[TopicMetadata | None]:
        """A topic's news; what is new of its partitions is seen as it comes, a new topic once it is whole."""
        topic = self.topics.get(state.topic_name)
        if topic is None or (state.topic_id not in (ZERO_ID, topic.topic_id)):
            if topic is not None:
                self._forget(topic)
                yield topic
            topic = TopicMetadata(state.topic_name, state.topic_id)
        for number, partition in enumerate(state.partition_states, 1):
            if number % STEP_PARTITIONS == 0:
                yield None
            known = topic.partitions.get(partition.partition_index)
            if partition.leader == DELETED:
                topic.partitions.pop(partition.partition_index, None)
            elif known is None or partition.leader_epoch >= known.leader_epoch:
                topic.partitions[partition.partition_index] = PartitionMetadata(
                    partition.leader,
                    partition.leader_epoch,
                    partition.replicas,
                    partition.isr,
                    partition.offline_replicas,
                )
        if topic.partitions:
            self.topics[topic.name] = topic
            if topic.topic_id != ZERO_ID:  # a controller of before topic ids tells none
                self._names[topic.topic_id] = topic.name
        elif self._forget(topic):
            yield topic
            return
        yield None

    def _forget(self, topic: TopicMetadata) -> bool:
        self._names.pop(topic.topic_id, None)
        return self.topics.pop(topic.name, None) is not None
