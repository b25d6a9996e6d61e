"""What a broker and the store of its machine say to each other over a Unix socket: frames, and what stands in them.

A frame is its length (4 bytes, big-endian) and a JSON array. A broker asks ``[call, verb, argument...]`` with calls
numbered from 1; the store answers ``[call, 0, result]`` or ``[call, 1, [error, words, operation index]]`` in any
order, and tells of watches that fired with ``[0, event type, path, is a watch of children]``. Data is text of the
same code points (Latin-1). Both sides are of one version: the store starts its brokers itself.

Rules: nothing that arrives is more than numbers and text; what is not as described here raises MalformedFrame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

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
    RequestTooLarge,
    SessionExpired,
    Set,
    Stat,
    StoreError,
    Znode,
)

REQUEST_BYTES = 8 * 1024 * 1024
"""What a request may take up: ``REQUEST_BYTES_MAX`` where every byte of data becomes six characters."""
ANSWER_BYTES = 256 * 1024 * 1024
"""What an answer may take up: the children of a znode, or as many znodes as one read asks for."""
PATHS_IN_ONE = 200
"""Znodes that one read asks for at most."""

_LENGTH = 4
_T = TypeVar("_T")
_ERRORS: dict[str, type[StoreError]] = {
    error.__name__: error
    for error in (
        BadArguments,
        BadVersion,
        ConnectionLoss,
        NoChildrenForEphemerals,
        NoNode,
        NodeExists,
        NotAuthorized,
        NotEmpty,
        RequestTooLarge,
        SessionExpired,
        StoreError,
    )
}


class MalformedFrame(Exception):
    """The other side does not keep to the protocol."""


def frame(message: Sequence[Any]) -> bytes:
    """The bytes of a message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH, "big") + body


class Frames:
    """Makes messages of what arrives, in whatever pieces."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[list[Any]]:
        """The messages that are complete now. Raises MalformedFrame; nothing may be fed after that."""
        buffer = self._buffer
        buffer += data
        messages: list[list[Any]] = []
        start = 0
        while len(buffer) - start >= _LENGTH:
            length = int.from_bytes(buffer[start : start + _LENGTH], "big")
            if length > self._bytes_max:
                raise MalformedFrame(f"a frame of {length} bytes, more than {self._bytes_max}")
            end = start + _LENGTH + length
            if len(buffer) < end:
                break
            messages.append(_message(bytes(buffer[start + _LENGTH : end])))
            start = end
        del buffer[:start]
        return messages


def _message(body: bytes) -> list[Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedFrame(f"no JSON: {error}") from None
    if not isinstance(message, list) or not message or type(message[0]) is not int:
        raise MalformedFrame("no array that begins with a number")
    return message


def want(kind: type[_T], value: Any) -> _T:
    """``value``, which must be of just this type. Raises MalformedFrame."""
    if type(value) is not kind:
        raise MalformedFrame(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def fields(values: Any, *kinds: type) -> list[Any]:
    """A list of so many values of these types. Raises MalformedFrame."""
    if type(values) is not list or len(values) != len(kinds):
        raise MalformedFrame(f"no list of {len(kinds)}")
    for kind, value in zip(kinds, values, strict=True):
        want(kind, value)
    return values


# Data, operations and what comes of them


def packed(data: bytes) -> str:
    """Data as it stands in a message."""
    return data.decode("latin-1")


def unpacked(text: Any) -> bytes:
    """The data of it. Raises MalformedFrame."""
    try:
        return want(str, text).encode("latin-1")
    except UnicodeEncodeError:
        raise MalformedFrame("data that is no bytes") from None


def packed_operation(operation: Operation) -> list[Any]:
    """An operation as it stands in a message."""
    if isinstance(operation, Create):
        path, data, ephemeral, sequential = operation
        return ["create", path, packed(data), bool(ephemeral), bool(sequential)]
    if isinstance(operation, Set):
        return ["set", operation.path, packed(operation.data), operation.version]
    verb = "delete" if isinstance(operation, Delete) else "check"
    return [verb, operation.path, operation.version]


def unpacked_operation(message: Any) -> Operation:
    """The operation of it. Raises MalformedFrame."""
    verb = want(list, message)[0] if message else None
    if verb == "create":
        _, path, data, ephemeral, sequential = fields(message, str, str, str, bool, bool)
        return Create(path, unpacked(data), ephemeral, sequential)
    if verb == "set":
        _, path, data, version = fields(message, str, str, str, int)
        return Set(path, unpacked(data), version)
    if verb in ("delete", "check"):
        _, path, version = fields(message, str, str, int)
        return Delete(path, version) if verb == "delete" else Check(path, version)
    raise MalformedFrame("an unknown operation")


def unpacked_stat(values: Any) -> Stat:
    """A stat, which stands in a message as a list of its numbers. Raises MalformedFrame."""
    return Stat(*fields(values, *(int for _ in Stat._fields)))


def packed_created(created: Created) -> list[Any]:
    """The answer to a create."""
    return [created.path, created.stat]


def unpacked_created(message: Any) -> Created:
    """What it says. Raises MalformedFrame."""
    path, stat = fields(message, str, list)
    return Created(path, unpacked_stat(stat))


def packed_znode(znode: Znode | None) -> list[Any] | None:
    """The answer to a read."""
    return None if znode is None else [packed(znode.data), znode.stat]


def unpacked_znode(message: Any) -> Znode | None:
    """What it says. Raises MalformedFrame."""
    if message is None:
        return None
    data, stat = fields(message, str, list)
    return Znode(unpacked(data), unpacked_stat(stat))


def unpacked_result(message: Any) -> OperationResult:
    """What an operation in a ``multi`` came to. Raises MalformedFrame."""
    if message is None or type(message) is str:
        return message
    return unpacked_stat(message)


def packed_error(error: BaseException) -> list[Any]:
    """A refusal. What only the store knows of is ConnectionLoss to others: done or not, nobody can tell."""
    name = type(error).__name__
    if name not in _ERRORS:
        return [ConnectionLoss.__name__, f"{name}: {error}", 0]
    return [name, str(error), getattr(error, "operation_index", 0)]


def unpacked_error(message: Any) -> StoreError:
    """What it says. Raises MalformedFrame."""
    name, words, index = fields(message, str, str, int)
    error = _ERRORS.get(name, StoreError)(words)
    error.operation_index = index
    return error
