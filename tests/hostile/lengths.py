"""Where the lengths and counts of a request stand, found by its schema, and values that they must not have."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from ottla.messages.registry import CONTROLLED_SHUTDOWN, api
from ottla.wire.compiler import FIXED
from ottla.wire.primitives import encode_uvarint, read_uvarint
from ottla.wire.schema import Spec

CLIENT_ID_AT = 8


class Place(NamedTuple):
    """One length: where it stands, how many bytes it takes, and how it is written (``h``, ``i``, or ``u``: compact)."""

    at: int
    size: int
    kind: str
    field: str


def places(key: int, version: int, frame: bytes) -> list[Place]:
    """Every length and count of a whole request, the client id's among them, in order."""
    walk = _Walk(frame, version, flexible=version >= api(key).flexible_from)
    if version or key != CONTROLLED_SHUTDOWN:
        walk.client_id()
    walk.struct(api(key).request, "")
    assert walk.at == len(frame), f"{api(key).name} v{version}"
    return walk.found


def bent(frame: bytes, place: Place) -> Iterator[bytes]:
    """The request with -2, -1, 0, 1, what is left and one more, and the largest there is, in one place."""
    left = len(frame) - place.at - place.size
    for number in (-2, -1, 0, 1, left, left + 1, 2**15 - 1, 2**31 - 2, 2**31 - 1):
        if place.kind == "u":
            coded = encode_uvarint((number + 1) & 0xFFFFFFFF)
        elif place.kind == "h" and not -(2**15) <= number < 2**15:
            continue
        else:
            coded = struct.pack(f">{place.kind}", number)
        yield frame[: place.at] + coded + frame[place.at + place.size :]


class _Walk:
    def __init__(self, frame: bytes, version: int, *, flexible: bool) -> None:
        self.frame = frame
        self.version = version
        self.flexible = flexible
        self.at = CLIENT_ID_AT
        self.found: list[Place] = []

    def client_id(self) -> None:
        (size,) = struct.unpack_from(">h", self.frame, CLIENT_ID_AT)
        self.found.append(Place(CLIENT_ID_AT, 2, "h", "client_id"))
        self.at = CLIENT_ID_AT + 2 + max(size, 0)
        if self.flexible:
            self.tags("header")

    def tags(self, field: str) -> None:
        count = self.compact(f"{field} tags") + 1
        for _ in range(count):
            _, self.at = read_uvarint(self.frame, self.at)
            size = self.compact(f"{field} tag") + 1
            self.at += size

    def compact(self, field: str) -> int:
        number, end = read_uvarint(self.frame, self.at)
        self.found.append(Place(self.at, end - self.at, "u", field))
        self.at = end
        return number - 1

    def length(self, field: str, kind: str) -> int:
        if self.flexible:
            return self.compact(field)
        number: int = struct.unpack_from(f">{kind}", self.frame, self.at)[0]
        size = struct.calcsize(kind)
        self.found.append(Place(self.at, size, kind, field))
        self.at += size
        return number

    def struct(self, cls: Any, path: str) -> None:
        for name, spec in cls.__fields__.items():
            if spec.versions.has(self.version) and spec.tag is None:
                self.value(spec, f"{path}.{name}")
        if self.flexible:
            self.tags(path)

    def value(self, spec: Spec, path: str) -> None:
        if spec.kind in FIXED:
            self.at += FIXED[spec.kind][1]
        elif spec.kind == "uuid":
            self.at += 16
        elif spec.kind == "struct":
            if spec.nullable is not None and spec.nullable.has(self.version):
                self.at += 1
            self.struct(spec.of, path)
        elif spec.kind == "array":
            for _ in range(self.length(path, "i")):
                if isinstance(spec.of, Spec):
                    self.value(spec.of, path)
                else:
                    self.struct(spec.of, path)
        else:
            size = self.length(path, "h" if spec.kind == "string" else "i")
            self.at += max(size, 0)
