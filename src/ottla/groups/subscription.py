"""Which topics a consumer group reads, for the expiry of offsets (KIP-211).

The members' metadata is opaque to a coordinator but for this. It is read as version 0, which every later
version begins with. Source: ``ClassicGroup.computeSubscribedTopics``.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.messages.consumer_protocol import ConsumerProtocolSubscription
from ottla.wire.compiler import decode
from ottla.wire.primitives import DecodeError

CONSUMER = "consumer"
"""The protocol type of consumers."""


def subscribed_topics(subscriptions: Iterable[bytes]) -> frozenset[str] | None:
    """The topics of all members together; None if one of them does not say it in our words."""
    topics: set[str] = set()
    try:
        for metadata in subscriptions:
            # Two bytes of version first; whatever follows the version-0 fields is not looked at.
            subscription, _ = decode(ConsumerProtocolSubscription, 0, metadata, 2)
            topics.update(subscription.topics)
    except DecodeError:
        return None
    return frozenset(topics)
