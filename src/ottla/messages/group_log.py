"""The records of ``__consumer_offsets``: keys and values of the classic protocol.

A key's two-byte version says what the record is: 0 and 1 an offset commit, 2 a group; 3-8 and 16 belong to
KIP-848 and are not ours. A value has its own version. Kafka writes keys 1 and 2, and values 3. Source:
``group-coordinator/src/main/resources/common/message`` and ``CoordinatorRecordHelpers.java``.
"""

from __future__ import annotations

import struct
from typing import TypeVar

from ottla.wire.compiler import decode, encode_bytes
from ottla.wire.primitives import BytesLike, DecodeError
from ottla.wire.schema import (
    Message,
    V,
    array,
    bytes_,
    int32,
    int64,
    since,
    string,
    uuid,
)

M = TypeVar("M", bound=Message)


class OffsetCommitKey(Message, versions=(0, 1)):
    """The key of a committed offset."""

    group: str = string(default="")
    topic: str = string(default="")
    partition: int = int32(default=0)


class OffsetCommitValue(Message, versions=(0, 4), flexible_from=4):
    """A committed offset; timestamps in milliseconds."""

    offset: int = int64(default=0)
    leader_epoch: int = int32(default=-1, versions=since(3))
    metadata: str = string(default="")
    commit_timestamp: int = int64(default=0)
    expire_timestamp: int = int64(default=-1, versions=V(1, 1))
    topic_id: bytes = uuid(default=bytes(16), versions=since(4), tag=0)


class GroupMetadataKey(Message, versions=(2, 2)):
    """The key of a group."""

    group: str = string(default="")


class MemberMetadata(Message):
    """A member of a group; timeouts in milliseconds."""

    member_id: str = string(default="")
    group_instance_id: str | None = string(default=None, versions=since(3), nullable=since(3))
    client_id: str = string(default="")
    client_host: str = string(default="")
    rebalance_timeout: int = int32(default=-1, versions=since(1))
    session_timeout: int = int32(default=0)
    subscription: bytes = bytes_(default=b"")
    assignment: bytes = bytes_(default=b"")


class GroupMetadataValue(Message, versions=(0, 4), flexible_from=4):
    """A group's generation with its members."""

    protocol_type: str = string(default="")
    generation: int = int32(default=0)
    protocol: str | None = string(default="", nullable=since(0))
    leader: str | None = string(default="", nullable=since(0))
    current_state_timestamp: int = int64(default=-1, versions=since(2))
    members: list[MemberMetadata] = array(MemberMetadata, default=list)


def encode_versioned(message: Message, version: int) -> bytes:
    """The message behind its version, as the log keeps it."""
    return struct.pack(">h", version) + encode_bytes(message, version)


def read_version(buf: BytesLike) -> int:
    """The version that stands first; raises ``DecodeError``."""
    if len(buf) < 2:
        raise DecodeError("no room for a version")
    version: int = struct.unpack_from(">h", buf)[0]
    return version


def decode_versioned(cls: type[M], buf: BytesLike) -> tuple[M, int]:
    """The message and its version; raises ``DecodeError`` for a version that ``cls`` does not have."""
    version = read_version(buf)
    if not cls.__versions__.has(version):
        raise DecodeError(f"{cls.__name__} has no version {version}")
    message, _ = decode(cls, version, buf, 2)
    return message, version
