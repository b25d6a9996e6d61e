"""Values and bytes: what an application sends, and what it gets back.

Without a serializer bytes go as they are and text as UTF-8. ``"bytes"``, ``"str"`` and ``"json"`` name the
usual ones; ``json_deserializer(SomeStruct)`` checks what it reads against a type (msgspec). Any
callable will do. None is a record without that part (a tombstone, for a value) and is never given to a
serializer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ottla.client.types import Header

HEADER_OVERHEAD_BYTES = 10

Serializer = Callable[[Any], bytes | None]
Deserializer = Callable[[bytes], Any]


def to_bytes(value: object) -> bytes:
    """Bytes-likes as bytes, text as UTF-8; raises ``TypeError`` for anything else."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(
        f"a key or value is bytes or str, not {type(value).__name__}: give the producer a serializer"
    )


def packed_headers(headers: Any) -> tuple[list[Header], int]:
    """A record's headers as they are sent, and what they take at most; raises ``TypeError``."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    packed: list[Header] = []
    size = 0
    for name, part in pairs:
        if not isinstance(name, str):
            raise TypeError(f"a header's name is a str, not {type(name).__name__}")
        value = None if part is None else to_bytes(part)
        packed.append((name, value))
        size += HEADER_OVERHEAD_BYTES + 2 * len(name) + len(value or b"")
    return packed, size


def serializer(wanted: str | Serializer | None) -> Serializer | None:
    """The serializer of that name, or the callable itself; None for the plain way.

    Raises ``ValueError`` for a name that is not known.
    """
    if wanted is None or callable(wanted):
        return wanted
    if wanted in ("bytes", "str"):
        return None
    if wanted == "json":
        import msgspec

        return msgspec.json.encode
    raise ValueError(f'unknown serializer {wanted!r}: "bytes", "str" and "json" are known')


def deserializer(wanted: str | Deserializer | None) -> Deserializer | None:
    """The deserializer of that name, or the callable itself; None leaves the bytes.

    Raises ``ValueError`` for a name that is not known.
    """
    if wanted is None or callable(wanted):
        return wanted
    if wanted == "bytes":
        return None
    if wanted == "str":
        return bytes.decode
    if wanted == "json":
        return json_deserializer()
    raise ValueError(f'unknown deserializer {wanted!r}: "bytes", "str" and "json" are known')


def json_deserializer(kind: Any = None) -> Deserializer:
    """Reads JSON, as ``kind`` (a msgspec Struct, a dataclass, any type) or as plain Python values."""
    import msgspec

    decoder = msgspec.json.Decoder() if kind is None else msgspec.json.Decoder(kind)
    return decoder.decode
