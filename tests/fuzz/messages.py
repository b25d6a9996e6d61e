"""Every message decoder: requests with their headers, responses, the group log's records, the consumer protocol.

An input's first byte says which; the rest are the bytes. What decodes must encode again, and that must decode
to the same: else a broker would pass on something else than it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ottla.messages import (
    consumer_protocol,
    group_log,
    leader_and_isr,
    stop_replica,
    update_metadata,
)
from ottla.messages.registry import (
    API_NAMES,
    api,
    decode_request_header,
    decode_response,
)
from ottla.wire.compiler import decode, encode_bytes
from ottla.wire.primitives import DecodeError
from tests.support.samples import sample, whole_requests, whole_responses

KEYS = list(API_NAMES)
REQUEST, RESPONSE, GROUP_LOG, PLAIN = range(4)
GROUP_LOG_CLASSES: list[Any] = [
    group_log.OffsetCommitKey,
    group_log.OffsetCommitValue,
    group_log.GroupMetadataKey,
    group_log.GroupMetadataValue,
]
PLAIN_CLASSES: list[Any] = [
    consumer_protocol.ConsumerProtocolSubscription,
    consumer_protocol.ConsumerProtocolAssignment,
    leader_and_isr.LeaderAndIsrRequest,
    stop_replica.StopReplicaRequest,
    update_metadata.UpdateMetadataRequest,
]


def seeds() -> Iterator[bytes]:
    """Every version of everything, with something in every field."""
    for frame in whole_requests(9):
        yield bytes((REQUEST,)) + frame
    for key, version, frame in whole_responses(9):
        yield bytes((RESPONSE, KEYS.index(key), version)) + frame
    for number, cls in enumerate(GROUP_LOG_CLASSES):
        for version in range(cls.__versions__.lo, cls.__versions__.hi + 1):
            yield (bytes((GROUP_LOG, number)) + group_log.encode_versioned(sample(cls), version))
    for number, cls in enumerate(PLAIN_CLASSES):
        for version in range(cls.__versions__.lo, cls.__versions__.hi + 1):
            yield bytes((PLAIN, number, version)) + encode_bytes(sample(cls), version)


def one(data: bytes) -> None:
    """Decode ``data``, and what came of it again."""
    if len(data) < 3:
        return
    kind = data[0] % 4
    try:
        if kind == REQUEST:
            _request(data[1:])
        elif kind == RESPONSE:
            found = api(KEYS[data[1] % len(KEYS)])
            version = _version(found.versions, data[2])
            _same_again(decode_response(found.key, version, data[3:]), version)
        elif kind == GROUP_LOG:
            cls = GROUP_LOG_CLASSES[data[1] % len(GROUP_LOG_CLASSES)]
            message, version = group_log.decode_versioned(cls, data[2:])
            _same_again(message, version)
        else:
            cls = PLAIN_CLASSES[data[1] % len(PLAIN_CLASSES)]
            version = _version(cls.__versions__, data[2])
            _same_again(decode(cls, version, data[3:])[0], version)
    except DecodeError:
        pass


def _request(frame: bytes) -> None:
    header, position = decode_request_header(frame)
    if header.api_key not in API_NAMES or not api(header.api_key).versions.has(header.api_version):
        return
    message, _ = decode(
        api(header.api_key).request, header.api_version, memoryview(frame), position
    )
    _same_again(message, header.api_version)


def _version(versions: Any, byte: int) -> int:
    return int(versions.lo + byte % (versions.hi - versions.lo + 1))


def _same_again(message: Any, version: int) -> None:
    encoded = encode_bytes(message, version)
    again, position = decode(type(message), version, encoded)
    assert position == len(encoded)
    assert encode_bytes(again, version) == encoded
