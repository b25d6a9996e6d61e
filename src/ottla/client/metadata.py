"""What a client knows of the cluster: brokers, topics, leaders. Sans-IO; ``cluster`` keeps it fresh.

Rules: a partition's leader is replaced only by one of the same or a newer epoch (an answer may come from a
broker that lags behind; KIP-320), unless the topic has another id, that is, was made anew. A topic that
an answer says is unknown is forgotten; but should that answer have been behind, its epochs count again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ottla.errors import ErrorCode
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.messages.metadata import MetadataResponse, MetadataResponseTopic


class Node(NamedTuple):
    """A broker's address."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class PartitionMetadata(NamedTuple):
    """A partition's replicas; ``leader`` is -1 when there is none."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]


class TopicMetadata(NamedTuple):
    """A topic; ``partitions`` in order of their numbers."""

    name: str
    topic_id: bytes
    internal: bool
    partitions: dict[int, PartitionMetadata]


class Metadata:
    """The last known state of the cluster."""

    def __init__(self) -> None:
        self.cluster_id: str | None = None
        self.controller_id = -1
        self.nodes: dict[int, Node] = {}
        self.topics: dict[str, TopicMetadata] = {}
        self.errors: dict[str, ErrorCode] = {}
        """Why a topic that was asked for is not among ``topics``."""
        self._names: dict[bytes, str] = {}
        self._unknown: dict[str, TopicMetadata] = {}
        """By name, what was known of topics before an answer said that they are not there."""

    def update(self, response: MetadataResponse) -> None:
        """Take over an answer."""
        self.cluster_id = response.cluster_id
        self.controller_id = response.controller_id
        if response.brokers:
            self.nodes = {
                b.node_id: Node(b.node_id, b.host, b.port, b.rack) for b in response.brokers
            }
        for topic in response.topics:
            if topic.name is None:
                continue
            code = _code(topic.error_code)
            if code in (ErrorCode.NONE, ErrorCode.LEADER_NOT_AVAILABLE) and topic.partitions:
                self.errors.pop(topic.name, None)
                self._update_topic(topic, topic.name)
            else:
                self.errors[topic.name] = code
                if code is not ErrorCode.LEADER_NOT_AVAILABLE:
                    known = self.topics.get(topic.name)
                    if known is not None and known.topic_id != ZERO_ID:
                        self._unknown[topic.name] = known
                    self._forget(topic.name)

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget every other topic."""
        wanted = set(names)
        for name in [name for name in self.topics if name not in wanted]:
            self._forget(name)
        for name in [name for name in self.errors if name not in wanted]:
            del self.errors[name]
            self._unknown.pop(name, None)

    def leader_of(self, topic: str, partition: int) -> int | None:
        """The node id of the partition's leader, or None when it is not known to have one."""
        known = self.topics.get(topic)
        if known is None:
            return None
        found = known.partitions.get(partition)
        return found.leader if found is not None and found.leader in self.nodes else None

    def partition(self, topic: str, partition: int) -> PartitionMetadata | None:
        """What is known of a partition."""
        known = self.topics.get(topic)
        return None if known is None else known.partitions.get(partition)

    def topic_id(self, topic: str) -> bytes:
        """The topic's id; ``ZERO_ID`` where there is none or it is not known."""
        known = self.topics.get(topic)
        return ZERO_ID if known is None else known.topic_id

    def name_of(self, topic_id: bytes) -> str | None:
        """The topic with this id."""
        return self._names.get(bytes(topic_id))

    def new_leader(self, topic: str, partition: int, leader: int, epoch: int) -> bool:
        """A broker's answer named a newer leader; whether it is one, and a broker that we know."""
        known = self.partition(topic, partition)
        if known is None or epoch <= known.leader_epoch or leader not in self.nodes:
            return False
        self.topics[topic].partitions[partition] = known._replace(leader=leader, leader_epoch=epoch)
        return True

    @staticmethod
    def partitions_of(topic: MetadataResponseTopic) -> dict[int, PartitionMetadata]:
        """A topic's partitions as an answer tells them, in order of their numbers."""
        return {
            p.partition_index: PartitionMetadata(
                p.partition_index,
                -1 if _code(p.error_code) is ErrorCode.LEADER_NOT_AVAILABLE else p.leader_id,
                p.leader_epoch,
                tuple(p.replica_nodes),
                tuple(p.isr_nodes),
            )
            for p in sorted(topic.partitions, key=lambda p: p.partition_index)
        }

    def _update_topic(self, topic: MetadataResponseTopic, name: str) -> None:
        before_that = self._unknown.pop(name, None)
        known = self.topics.get(name) or before_that
        topic_id = bytes(topic.topic_id)
        if known is not None and known.topic_id != topic_id:
            self._forget(name)
            known = None
        partitions = self.partitions_of(topic)
        if known is not None:
            for number, before in known.partitions.items():
                found = partitions.get(number)
                if found is not None and 0 <= found.leader_epoch < before.leader_epoch:
                    partitions[number] = before
        self.topics[name] = TopicMetadata(name, topic_id, topic.is_internal, partitions)
        if topic_id != ZERO_ID:
            self._names[topic_id] = name

    def _forget(self, name: str) -> None:
        known = self.topics.pop(name, None)
        if known is not None:
            self._names.pop(known.topic_id, None)


def _code(number: int) -> ErrorCode:
    return ErrorCode(number)
