"""A member's subscription and its assignment as bytes: the ``consumer`` protocol inside JoinGroup and SyncGroup.

Source: ``ConsumerProtocol.java``. We write version 3 of a subscription and of an assignment as Java does;
a version above ours is read as ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ottla.client.consumer.assignors.assignor import MemberSubscription
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)
from ottla.messages.consumer_protocol import TopicPartition as TopicPartitions
from ottla.wire.compiler import decode, encode_bytes
from ottla.wire.primitives import BytesLike, DecodeError

PROTOCOL_TYPE = "consumer"
_VERSION = 3


def encode_subscription(subscription: MemberSubscription) -> bytes:
    """What a member sends when it joins."""
    message = ConsumerProtocolSubscription(
        topics=sorted(subscription.topics),
        user_data=subscription.user_data,
        owned_partitions=_by_topic(sorted(subscription.owned_partitions)),
        generation_id=subscription.generation_id,
        rack_id=subscription.rack_id,
    )
    return struct.pack(">h", _VERSION) + encode_bytes(message, _VERSION)


def decode_subscription(
    data: BytesLike, group_instance_id: str | None = None
) -> MemberSubscription:
    """What the leader reads of a member; raises ``KafkaError`` for what nobody can read."""
    try:
        message, _ = decode(ConsumerProtocolSubscription, _version(data), data, 2)
    except DecodeError as error:
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"subscription: {error}") from error
    return MemberSubscription(
        topics=list(message.topics),
        user_data=None if message.user_data is None else bytes(message.user_data),
        owned_partitions=_flat(message.owned_partitions),
        generation_id=message.generation_id,
        rack_id=message.rack_id or None,
        group_instance_id=group_instance_id,
    )


def encode_assignment(partitions: Iterable[TopicPartition]) -> bytes:
    """What the leader gives to a member."""
    message = ConsumerProtocolAssignment(assigned_partitions=_by_topic(partitions))
    return struct.pack(">h", _VERSION) + encode_bytes(message, _VERSION)


def decode_assignment(data: BytesLike) -> list[TopicPartition]:
    """What a member was given; no bytes mean nothing. Raises ``KafkaError`` for what nobody can read."""
    if not data:
        return []
    try:
        message, _ = decode(ConsumerProtocolAssignment, _version(data), data, 2)
    except DecodeError as error:
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"assignment: {error}") from error
    return _flat(message.assigned_partitions)


def _version(data: BytesLike) -> int:
    if len(data) < 2:
        raise DecodeError("no room for a version")
    version: int = struct.unpack_from(">h", data)[0]
    if version < 0:
        raise DecodeError(f"version {version}")
    return min(version, _VERSION)


def _by_topic(partitions: Iterable[TopicPartition]) -> list[TopicPartitions]:
    found: dict[str, TopicPartitions] = {}
    for topic, partition in partitions:
        if topic not in found:
            found[topic] = TopicPartitions(topic=topic, partitions=[])
        found[topic].partitions.append(partition)
    return list(found.values())


def _flat(topics: Iterable[TopicPartitions]) -> list[TopicPartition]:
    return [TopicPartition(t.topic, p) for t in topics for p in t.partitions]
