"""Records that make a difference: null and empty parts, headers of every kind, times out of order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# An hour ago: not in the future for a broker's clock, and nothing that retention would take.
BASE_MS = int(time.time()) * 1000 - 3_600_000

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

Headers = tuple[tuple[str, bytes | None], ...]


class Sample(NamedTuple):
    """A record as a producer gives it and a consumer gets it. ``timestamp_ms`` is -1 where unknown."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = -1


def headers_of(headers: Iterable[Sequence[object]] | None) -> Headers:
    """A client's headers, whatever sequence they come in, as a sample's."""
    return tuple((str(name), value) for name, value in headers or ())  # type: ignore[misc]


SAMPLES: tuple[Sample, ...] = (
    Sample(b"JFK", b"21.5", (("unit", b"C"),), BASE_MS + 5_000),
    Sample(None, b"a value without a key", (), BASE_MS + 4_000),
    Sample(b"a tombstone", None, (), BASE_MS + 4_000),
    Sample(None, None, (), BASE_MS),
    Sample(b"", b"", (("", b""),), BASE_MS + 1),
    Sample(
        b"headers",
        b"of every kind",
        (
            ("null", None),
            ("empty", b""),
            ("twice", b"1"),
            ("twice", b"2"),
            ("Straße", "größer".encode()),
            ("binary", bytes(range(256))),
        ),
        BASE_MS + 6_000,
    ),
    Sample(bytes(range(256)), bytes(reversed(range(256))), (), BASE_MS + 7_000),
    Sample("Ähre".encode(), b"long " * 2_000, (("many", b"h" * 300),), BASE_MS + 8_000),
)

# What a program that takes lines of text can write: no time, no bytes that are not text.
TEXT_SAMPLES: tuple[Sample, ...] = (
    Sample(b"JFK", b"21.5", (("unit", b"C"),)),
    Sample(b"LGA", b"a value", (("null", None), ("empty", b""), ("twice", b"1"), ("twice", b"2"))),
    Sample("Ähre".encode(), "größer".encode(), (("Straße", "weiß".encode()),)),
    Sample(None, b"a value without a key"),
    Sample(b"a tombstone", None),
    Sample(b"long", b"long " * 2_000),
)
