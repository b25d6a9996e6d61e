"""Every API that Ottla speaks: its key, its messages, its versions; and the headers before a message.

Rules: a module of messages is imported when its API is first used. The ApiVersions response has header 0 in
every version, so that a client that does not know ours can read the answer (KIP-511). A request header
keeps its client id in the old string format even where it is flexible. Source: ``ApiKeys.java``,
``RequestHeader.json``, ``ResponseHeader.json``.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from importlib import import_module
from typing import Any, NamedTuple

from ottla.wire.compiler import decode, encode, encode_in_steps
from ottla.wire.primitives import BytesLike, DecodeError, read_uvarint
from ottla.wire.schema import Message, V

API_VERSIONS = 18

API_NAMES: dict[int, str] = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    4: "LeaderAndIsr",
    5: "StopReplica",
    6: "UpdateMetadata",
    7: "ControlledShutdown",
    8: "OffsetCommit",
    9: "OffsetFetch",
    10: "FindCoordinator",
    11: "JoinGroup",
    12: "Heartbeat",
    13: "LeaveGroup",
    14: "SyncGroup",
    15: "DescribeGroups",
    16: "ListGroups",
    18: "ApiVersions",
    19: "CreateTopics",
    20: "DeleteTopics",
    21: "DeleteRecords",
    22: "InitProducerId",
    23: "OffsetForLeaderEpoch",
    29: "DescribeAcls",
    30: "CreateAcls",
    31: "DeleteAcls",
    32: "DescribeConfigs",
    33: "AlterConfigs",
    34: "AlterReplicaLogDirs",
    35: "DescribeLogDirs",
    37: "CreatePartitions",
    38: "CreateDelegationToken",
    39: "RenewDelegationToken",
    40: "ExpireDelegationToken",
    41: "DescribeDelegationToken",
    42: "DeleteGroups",
    43: "ElectLeaders",
    44: "IncrementalAlterConfigs",
    45: "AlterPartitionReassignments",
    46: "ListPartitionReassignments",
    47: "OffsetDelete",
    48: "DescribeClientQuotas",
    49: "AlterClientQuotas",
    50: "DescribeUserScramCredentials",
    51: "AlterUserScramCredentials",
    56: "AlterPartition",
    57: "UpdateFeatures",
    60: "DescribeCluster",
    61: "DescribeProducers",
    65: "DescribeTransactions",
    66: "ListTransactions",
    67: "AllocateProducerIds",
    71: "GetTelemetrySubscriptions",
    72: "PushTelemetry",
    74: "ListConfigResources",
    75: "DescribeTopicPartitions",
}


API_VERSIONS_RANGES: dict[int, tuple[int, int]] = {
    0: (3, 13),
    1: (4, 18),
    2: (1, 11),
    3: (0, 13),
    4: (0, 7),
    5: (0, 4),
    6: (0, 8),
    7: (0, 3),
    8: (2, 10),
    9: (1, 10),
    10: (0, 6),
    11: (0, 9),
    12: (0, 4),
    13: (0, 5),
    14: (0, 5),
    15: (0, 6),
    16: (0, 5),
    18: (0, 5),
    19: (2, 7),
    20: (1, 6),
    21: (0, 2),
    22: (0, 5),
    23: (2, 4),
    29: (1, 3),
    30: (1, 3),
    31: (1, 3),
    32: (1, 4),
    33: (0, 2),
    34: (1, 2),
    35: (1, 5),
    37: (0, 3),
    38: (1, 3),
    39: (1, 2),
    40: (1, 2),
    41: (1, 3),
    42: (0, 3),
    43: (0, 2),
    44: (0, 1),
    45: (0, 1),
    46: (0, 0),
    47: (0, 0),
    48: (0, 1),
    49: (0, 1),
    50: (0, 0),
    51: (0, 0),
    56: (0, 3),
    57: (0, 2),
    60: (0, 2),
    61: (0, 0),
    65: (0, 0),
    66: (0, 2),
    67: (0, 0),
    71: (0, 0),
    72: (0, 0),
    74: (0, 1),
    75: (0, 0),
}
"""Lowest and highest version of each API, known without importing its messages."""

BETWEEN_BROKERS = frozenset((4, 5, 6, 7, 56, 67))
"""What only the brokers of a cluster and their controller ask each other."""

CONTROLLED_SHUTDOWN = 7
"""Its version 0 has a request header of its own, which names no client (``RequestHeader`` version 0)."""


class Api(NamedTuple):
    """One API."""

    key: int
    name: str
    request: type[Message]
    response: type[Message]
    versions: V
    flexible_from: int


class RequestHeader(NamedTuple):
    """What stands before every request."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


_apis: dict[int, Api] = {}
_key_of: dict[str, int] = {name: key for key, name in API_NAMES.items()}


def module_name(name: str) -> str:
    """``ListOffsets`` as ``list_offsets``: the name of its modules of messages and of its handler."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)[1:]


def api(key: int) -> Api:
    """The API with this key; raises ``KeyError`` for one that Ottla does not speak."""
    found = _apis.get(key)
    if found is None:
        name = API_NAMES[key]
        module = import_module(f"ottla.messages.{module_name(name)}")
        request: type[Message] = getattr(module, f"{name}Request")
        response: type[Message] = getattr(module, f"{name}Response")
        found = Api(key, name, request, response, request.__versions__, request.__flexible_from__)
        assert found.versions == API_VERSIONS_RANGES[key], name
        _apis[key] = found
    return found


def key_of(name: str) -> int:
    """The key of the API with Kafka's name, e.g. ``Produce``."""
    return _key_of[name]


_HEADER = struct.Struct(">hhih")
_new_header = tuple.__new__


def decode_request_header(buf: BytesLike) -> tuple[RequestHeader, int]:
    """The header of a request and the position of its body; raises ``DecodeError``.

    An unknown key is read as far as the client id, with tags where the version says nothing: the caller
    closes the connection anyway.
    """
    if len(buf) < 10:
        raise DecodeError("request shorter than its header")
    key, version, correlation_id, length = _HEADER.unpack_from(buf)
    if not version and key == CONTROLLED_SHUTDOWN:
        return RequestHeader(key, version, correlation_id, None), _HEADER.size - 2
    position = 10
    if length < -1 or length > len(buf) - position:
        raise DecodeError(f"client id of length {length}")
    client_id = None
    if length >= 0:
        end = position + length
        try:
            client_id = str(buf[position:end], "utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"client id: {error}") from error
        position = end
    found = _apis.get(key)
    if found is None and key in API_NAMES:
        found = api(key)
    if found is not None and version >= found.flexible_from:
        if position < len(buf) and not buf[position]:  # no tags, as nearly always
            position += 1
        else:
            position = _skip_tags(buf, position)
    return _new_header(RequestHeader, (key, version, correlation_id, client_id)), position


def encode_request(
    message: Message, version: int, correlation_id: int, client_id: str | None
) -> list[Any]:
    """A whole request without its length prefix, as chunks."""
    name = b"" if client_id is None else client_id.encode()
    length = -1 if client_id is None else len(name)
    cls = type(message)
    header = _HEADER.pack(cls.__api_key__, version, correlation_id, length) + name
    if not version and cls.__api_key__ == CONTROLLED_SHUTDOWN:
        header = header[: _HEADER.size - 2]
    if version >= cls.__flexible_from__:
        header += b"\0"
    chunks = encode(message, version)
    chunks[0] = header + chunks[0]
    return chunks


_CORRELATION = struct.Struct(">i")
_CORRELATION_AND_NO_TAGS = struct.Struct(">ix")


def encode_response(key: int, version: int, correlation_id: int, message: Message) -> list[Any]:
    """A whole response without its length prefix, as chunks."""
    chunks = encode(message, version)
    if version >= type(message).__flexible_from__ and key != API_VERSIONS:
        chunks[0] = _CORRELATION_AND_NO_TAGS.pack(correlation_id) + chunks[0]
    else:
        chunks[0] = _CORRELATION.pack(correlation_id) + chunks[0]
    return chunks


def encode_response_in_steps(
    key: int, version: int, correlation_id: int, message: Message
) -> Generator[None, None, list[Any]]:
    """As ``encode_response``, some of it in each step."""
    chunks = yield from encode_in_steps(message, version)
    if version >= type(message).__flexible_from__ and key != API_VERSIONS:
        chunks[0] = _CORRELATION_AND_NO_TAGS.pack(correlation_id) + chunks[0]
    else:
        chunks[0] = _CORRELATION.pack(correlation_id) + chunks[0]
    return chunks


def read_correlation_id(buf: BytesLike) -> int:
    """The correlation id of a response; raises ``DecodeError``."""
    if len(buf) < 4:
        raise DecodeError("response shorter than its header")
    return int.from_bytes(buf[:4], "big", signed=True)


def decode_response(key: int, version: int, buf: BytesLike) -> Message:
    """The body of a response, past its header; raises ``DecodeError``, also for bytes left over."""
    found = api(key)
    position = 4
    if version >= found.flexible_from and key != API_VERSIONS:
        position = _skip_tags(buf, position)
    message, position = decode(found.response, version, buf, position)
    if position != len(buf):
        raise DecodeError(f"{found.name} v{version}: {len(buf) - position} bytes left over")
    return message


def _skip_tags(buf: BytesLike, position: int) -> int:
    count, position = read_uvarint(buf, position)
    for _ in range(count):
        _, position = read_uvarint(buf, position)
        size, position = read_uvarint(buf, position)
        if size > len(buf) - position:
            raise DecodeError(f"tagged field of {size} bytes")
        position += size
    return position


def encode_size(chunks: list[Any]) -> bytes:
    """The length prefix of a request or response that is made of ``chunks``."""
    return sum(map(len, chunks)).to_bytes(4, "big", signed=True)


__all__ = [
    "API_NAMES",
    "API_VERSIONS",
    "API_VERSIONS_RANGES",
    "BETWEEN_BROKERS",
    "CONTROLLED_SHUTDOWN",
    "Api",
    "RequestHeader",
    "api",
    "decode_request_header",
    "decode_response",
    "encode_request",
    "encode_response",
    "encode_response_in_steps",
    "encode_size",
    "key_of",
    "module_name",
    "read_correlation_id",
]
