"""The bytes of a segment's file, as a broker that runs, or was killed, leaves them."""

from __future__ import annotations

from ottla.errors import KafkaError
from ottla.records.batch import read_header


def without_room(content: bytes) -> bytes:
    """``content`` without the zeros behind its last batch that are room for others; as it is where something else follows."""
    used = len(content.rstrip(b"\0"))  # a batch may itself end in zeros
    end = 0
    while end < used:
        try:
            end += read_header(content, end).size_bytes
        except KafkaError:
            return content
    return content[:end]
