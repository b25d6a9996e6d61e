"""ZooKeeper's requests and their answers as bytes (jute), in the terms of ``store``.

kazoo has its own, but no ``multiRead`` and no ``setWatches``, and it would make objects that are made over here
again. Each request is encoded once, on the loop, so that its weight is known before it is sent. Source:
``zookeeper.jute``, ``MultiOperationRecord``, ``MultiResponse``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ottla.coordination.store import (
    BadArguments,
    BadVersion,
    Check,
    ConnectionLoss,
    Create,
    Created,
    Delete,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotAuthorized,
    NotEmpty,
    Operation,
    OperationResult,
    SessionExpired,
    Set,
    Stat,
    StoreError,
    Znode,
)

MAX_BYTES = 1_048_575 - 1024
"""ZooKeeper's ``jute.maxbuffer`` less room for the request's header."""
UNIMPLEMENTED = -6

_DELETE, _EXISTS, _GET, _SET, _CHILDREN, _CHECK, _MULTI, _CREATE2 = 2, 3, 4, 5, 8, 13, 14, 15
_CREATE, _MULTI_READ, _SET_WATCHES = 1, 22, 101
_ERROR = -1

_INT = struct.Struct("!i")
_STAT = struct.Struct("!qqqqiiiqiiq")
_MULTI_HEADER = struct.Struct("!i?i")
_END_OF_MULTI = _MULTI_HEADER.pack(-1, True, -1)

_ERRORS: dict[int, type[StoreError]] = {
    -4: ConnectionLoss,
    -8: BadArguments,
    -101: NoNode,
    -102: NotAuthorized,
    -103: BadVersion,
    -108: NoChildrenForEphemerals,
    -110: NodeExists,
    -111: NotEmpty,
    -112: SessionExpired,
    -114: NotAuthorized,  # an ACL that this session can't be held to
    -115: NotAuthorized,
    -118: ConnectionLoss,  # SESSIONMOVED: it lives on another connection, the answer was lost
}
_UNDONE, _NOT_TRIED = 0, -2  # of the operations of a failed multi that did not fail


class Acl(NamedTuple):
    """Who may do what: ``permissions`` are ZooKeeper's bits."""

    permissions: int
    scheme: str
    identity: str


WORLD_ALL = Acl(31, "world", "anyone")
WORLD_READ = Acl(1, "world", "anyone")
CREATOR_ALL = Acl(31, "auth", "")


class Request:
    """One request as kazoo's connection wants it: it has a ``type``, and is told to (de)serialize."""

    __slots__ = ("_body", "_decode", "type")

    def __init__(self, kind: int, body: bytes, decode: Callable[[bytes, int], Any]) -> None:
        self.type = kind
        self._body = body
        self._decode = decode

    @property
    def weight(self) -> int:
        """Bytes, less the header."""
        return len(self._body)

    def serialize(self) -> bytes:
        """The bytes behind the header."""
        return self._body

    def deserialize(self, buffer: bytes, offset: int) -> Any:
        """The answer from ``offset`` on."""
        return self._decode(buffer, offset)


def error_of(code: int, path: str = "") -> StoreError:
    """The error that ZooKeeper's code stands for."""
    kind = _ERRORS.get(code)
    return kind(path) if kind else StoreError(f"ZooKeeper's error {code} {path}".rstrip())


def refusal(request: Request, answer: Any) -> StoreError | None:
    """Why a multi was not done; None if it was, and for every other request."""
    if request.type == _MULTI and isinstance(answer[0], StoreError):
        return answer[0]
    return None


# Requests. Paths are whole: the chroot is in them.


def create(operation: Create, acl: Sequence[Acl]) -> Request:
    """Answered with ``Created``."""
    return Request(_CREATE2, _create_body(operation, acl), _created)


def get(path: str, *, watch: bool) -> Request:
    """Answered with ``Znode``."""
    return Request(_GET, _watched(path, watch), lambda buffer, offset: _znode(buffer, offset)[0])


def exists(path: str, *, watch: bool) -> Request:
    """Answered with ``Stat``; kazoo answers None for an error of NoNode."""
    return Request(_EXISTS, _watched(path, watch), _stat)


def children(path: str, *, watch: bool) -> Request:
    """Answered with the names."""
    return Request(_CHILDREN, _watched(path, watch), _names)


def write(operation: Set | Delete) -> Request:
    """Answered with the ``Stat`` or nothing."""
    if isinstance(operation, Set):
        return Request(_SET, _set_body(operation), _stat)
    return Request(_DELETE, _versioned(operation), _nothing)


def multi(operations: Sequence[tuple[Operation, Sequence[Acl]]]) -> Request:
    """Answered with a list of results, or with a list of the ``StoreError`` of the one that failed.

    (kazoo looks through the answer of a multi for paths, so it must be a list.)
    """
    body = bytearray()
    for operation, acl in operations:
        if isinstance(operation, Create):
            body += _MULTI_HEADER.pack(_CREATE, False, -1) + _create_body(operation, acl)
        elif isinstance(operation, Set):
            body += _MULTI_HEADER.pack(_SET, False, -1) + _set_body(operation)
        elif isinstance(operation, Delete):
            body += _MULTI_HEADER.pack(_DELETE, False, -1) + _versioned(operation)
        else:
            body += _MULTI_HEADER.pack(_CHECK, False, -1) + _versioned(operation)
    paths = [operation.path for operation, _ in operations]
    return Request(
        _MULTI,
        bytes(body + _END_OF_MULTI),
        lambda buffer, offset: _multi_results(buffer, offset, paths),
    )


def multi_read(paths: Iterable[str]) -> Request:
    """Answered with a list of ``Znode | None | StoreError``. ZooKeeper 3.6 and later have it."""
    header = _MULTI_HEADER.pack(_GET, False, -1)
    body = b"".join(header + _watched(path, False) for path in paths)
    return Request(_MULTI_READ, body + _END_OF_MULTI, _read_results)


def set_watches(
    zxid: int, data: Sequence[str], absent: Sequence[str], child: Sequence[str]
) -> Request:
    """Put watches back that a lost connection took; what changed after ``zxid`` fires them at once."""
    body = bytearray(struct.pack("!q", zxid))
    for paths in (data, absent, child):
        body += _INT.pack(len(paths))
        for path in paths:
            body += _text(path)
    return Request(_SET_WATCHES, bytes(body), _nothing)


# Encoding


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _INT.pack(len(encoded)) + encoded


def _watched(path: str, watch: bool) -> bytes:
    return _text(path) + (b"\x01" if watch else b"\x00")


def _versioned(operation: Delete | Check) -> bytes:
    return _text(operation.path) + _INT.pack(operation.version)


def _set_body(operation: Set) -> bytes:
    data = operation.data
    return b"".join(
        (_text(operation.path), _INT.pack(len(data)), data, _INT.pack(operation.version))
    )


def _create_body(operation: Create, acl: Sequence[Acl]) -> bytes:
    # A znode without data has none at all (-1), as Kafka makes them: it takes empty data for a broken znode.
    length = len(operation.data) or -1
    parts = [_text(operation.path), _INT.pack(length), operation.data]
    parts.append(_INT.pack(len(acl)))
    for permissions, scheme, identity in acl:
        parts += (_INT.pack(permissions), _text(scheme), _text(identity))
    parts.append(_INT.pack(operation.ephemeral + 2 * operation.sequential))
    return b"".join(parts)


# Decoding


def _nothing(buffer: bytes, offset: int) -> None:
    return None


def _stat(buffer: bytes, offset: int) -> Stat:
    czxid, mzxid, ctime, mtime, version, cversion, _, owner, length, count, pzxid = (
        _STAT.unpack_from(buffer, offset)
    )
    return Stat(czxid, mzxid, pzxid, ctime, mtime, version, cversion, owner, max(length, 0), count)


def _string(buffer: bytes, offset: int) -> tuple[str, int]:
    (length,) = _INT.unpack_from(buffer, offset)
    end = offset + 4 + max(length, 0)
    return buffer[offset + 4 : end].decode(), end


def _created(buffer: bytes, offset: int) -> Created:
    path, offset = _string(buffer, offset)
    return Created(path, _stat(buffer, offset))


def _znode(buffer: bytes, offset: int) -> tuple[Znode, int]:
    (length,) = _INT.unpack_from(buffer, offset)
    end = offset + 4 + max(length, 0)
    return Znode(bytes(buffer[offset + 4 : end]), _stat(buffer, end)), end + _STAT.size


def _names(buffer: bytes, offset: int) -> list[str]:
    (count,) = _INT.unpack_from(buffer, offset)
    offset += 4
    names = []
    for _ in range(count):
        name, offset = _string(buffer, offset)
        names.append(name)
    return names


def _multi_results(
    buffer: bytes, offset: int, paths: list[str]
) -> list[OperationResult] | list[StoreError]:
    results: list[OperationResult] = []
    error: StoreError | None = None
    for index, path in enumerate(paths):
        kind, _, _ = _MULTI_HEADER.unpack_from(buffer, offset)
        offset += _MULTI_HEADER.size
        if kind == _CREATE:
            created, offset = _string(buffer, offset)
            results.append(created)
        elif kind == _SET:
            results.append(_stat(buffer, offset))
            offset += _STAT.size
        elif kind == _ERROR:
            (code,) = _INT.unpack_from(buffer, offset)
            offset += 4
            if error is None and code not in (_UNDONE, _NOT_TRIED):
                error = error_of(code, path)
                error.operation_index = index
        else:
            results.append(None)
    return results if error is None else [error]


def _read_results(buffer: bytes, offset: int) -> list[Znode | StoreError | None]:
    results: list[Znode | StoreError | None] = []
    while True:
        kind, is_end, _ = _MULTI_HEADER.unpack_from(buffer, offset)
        offset += _MULTI_HEADER.size
        if is_end:
            return results
        if kind == _ERROR:
            (code,) = _INT.unpack_from(buffer, offset)
            offset += 4
            results.append(None if code == -101 else error_of(code))
        else:
            znode, offset = _znode(buffer, offset)
            results.append(znode)
