"""The record that a consumer hands to an application.

A struct rather than a tuple: it takes half the time to make, and the garbage collector, which would walk over
every record that is on its way, need not know of it. (What a deserializer made is known to it; only a value
that refers back to its own record would never be freed.)
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ottla.client.types import Header


class Record(Struct, frozen=True, gc=False):
    """A record as it was read; compares by value.

    ``key`` and ``value`` are what the deserializers made of the bytes (the bytes themselves without
    one). ``timestamp_ms`` is the producer's time, or the broker's with ``LogAppendTime``; -1 for none.
    ``headers`` are pairs of a name and a value (bytes or None), in their order.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: Any
    value: Any
    headers: tuple[Header, ...]

    def header(self, name: str) -> bytes | None:
        """The value of the last header of that name; None when there is none."""
        for found, value in reversed(self.headers):
            if found == name:
                return value
        return None
