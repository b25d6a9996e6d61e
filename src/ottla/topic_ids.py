"""Topic ids: 16 raw bytes inside, Kafka's URL-safe base64 text outside (KIP-516).

``uuid.UUID`` is not used: it costs an import at start and an object a topic in every Fetch.
"""

from __future__ import annotations

import base64
import binascii
import os

ZERO_ID = bytes(16)
"""No id: what a request below the id versions carries."""

_RESERVED = frozenset((ZERO_ID, bytes(15) + b"\x01"))


def random_topic_id() -> bytes:
    """A new random (version 4) id that Kafka would give: never reserved, never text with a leading dash.

    Source: ``org.apache.kafka.common.Uuid.randomUuid``.
    """
    while True:
        raw = bytearray(os.urandom(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        topic_id = bytes(raw)
        if topic_id not in _RESERVED and not to_text(topic_id).startswith("-"):
            return topic_id


def to_text(topic_id: bytes) -> str:
    """The 22 characters that Kafka prints and keeps in ``partition.metadata``."""
    return base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode("ascii")


def from_text(text: str) -> bytes:
    """The id of ``to_text``; raises ``ValueError`` for anything that is not 16 bytes of it."""
    try:
        topic_id = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not a topic id: {text!r}") from error
    if len(topic_id) != 16:
        raise ValueError(f"not a topic id: {text!r}")
    return topic_id
