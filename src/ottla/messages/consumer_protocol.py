"""What the members of a consumer group tell each other inside JoinGroup and SyncGroup, versions 0-3.

Opaque to the broker, save for which topics a group reads (KIP-211). A version prefix of two bytes stands
before each; a version above ours is read as ours (``ConsumerProtocol.java``).
"""

from __future__ import annotations

from ottla.wire.schema import Message, array, bytes_, int32, since, string


class TopicPartition(Message):
    """Partitions of a topic."""

    topic: str = string(default="")
    partitions: list[int] = array(int32, default=list)


class ConsumerProtocolSubscription(Message, versions=(0, 3)):
    """Kafka's ``ConsumerProtocolSubscription``."""

    topics: list[str] = array(string, default=list)
    user_data: bytes | None = bytes_(default=None, nullable=since(0))
    owned_partitions: list[TopicPartition] = array(TopicPartition, default=list, versions=since(1))
    generation_id: int = int32(default=-1, versions=since(2))
    rack_id: str | None = string(default=None, versions=since(3), nullable=since(3))


class ConsumerProtocolAssignment(Message, versions=(0, 3)):
    """Kafka's ``ConsumerProtocolAssignment``."""

    assigned_partitions: list[TopicPartition] = array(TopicPartition, default=list)
    user_data: bytes | None = bytes_(default=None, nullable=since(0))
