"""What the admin client tells and is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ottla.client.metadata import Node, PartitionMetadata
from ottla.client.types import TopicPartition
from ottla.errors import KafkaError


class NewTopic(NamedTuple):
    """A topic to be made; -1 leaves a number to the broker's defaults."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    config: Mapping[str, str] = {}


class TopicDescription(NamedTuple):
    """A topic as the metadata tell it; ``topic_id`` is Kafka's text, empty where there are no ids."""

    name: str
    topic_id: str
    internal: bool
    partitions: list[PartitionMetadata]


class ConfigEntry(NamedTuple):
    """One setting of a topic or a broker.

    ``source`` says where the value comes from: "topic", "broker" (dynamic), "static" (the broker's file),
    "default" or "unknown". ``value`` is None for a secret.
    """

    name: str
    value: str | None
    source: str
    read_only: bool
    sensitive: bool
    documentation: str | None = None

    @property
    def is_default(self) -> bool:
        """Whether nobody has set it."""
        return self.source == "default"


class ConfigResource(NamedTuple):
    """Something that has settings: ``kind`` is "topic", "broker", "client metrics" or "group"."""

    kind: str
    name: str


class ProducerDescription(NamedTuple):
    """An idempotent producer as a partition remembers it; -1 for a sequence or a time that there is not."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_timestamp_ms: int


class GroupListing(NamedTuple):
    """A group by name; state and type are empty where the broker is too old to say."""

    group: str
    protocol_type: str
    state: str
    group_type: str


class MemberDescription(NamedTuple):
    """One member of a group, with what it reads."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    host: str
    partitions: list[TopicPartition]


class GroupDescription(NamedTuple):
    """A group with its members; ``assignor`` is the protocol they agreed on."""

    group: str
    state: str
    protocol_type: str
    assignor: str
    members: list[MemberDescription]
    coordinator: Node


class ClusterDescription(NamedTuple):
    """The cluster's id and brokers; ``controller_id`` is -1 when there is none."""

    cluster_id: str
    controller_id: int
    nodes: list[Node]


class Reassignment(NamedTuple):
    """A partition that is getting other replicas; ``replicas`` are all that it has meanwhile."""

    replicas: list[int]
    adding: list[int]
    removing: list[int]


class LogDirReplica(NamedTuple):
    """A partition's log in a log directory.

    ``offset_lag``: how many offsets it lacks, -1 if that is not known. ``is_future``: it is on its way into
    this directory, and lacks so much of the log that it will replace.
    """

    topic: str
    partition: int
    size_bytes: int
    offset_lag: int
    is_future: bool


class LogDirDescription(NamedTuple):
    """A broker's log directory; ``error`` says why it can't be described, mostly because it is offline.

    ``total_bytes`` and ``usable_bytes`` of its volume are -1 where the broker does not tell them.
    """

    broker: int
    path: str
    error: KafkaError | None
    total_bytes: int
    usable_bytes: int
    replicas: list[LogDirReplica]


RESOURCE_KINDS = {2: "topic", 4: "broker", 8: "broker logger", 16: "client metrics", 32: "group"}
"""``ConfigResource.Type``."""

CONFIG_SOURCES = {
    1: "topic",
    2: "broker",
    3: "broker",
    4: "static",
    5: "default",
    6: "broker",
    7: "client metrics",
    8: "group",
}
"""``DescribeConfigsResponse.ConfigSource``."""
