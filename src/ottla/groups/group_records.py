"""The records of ``__consumer_offsets``, in Kafka's bytes: written here, and read here again.

Rules: keys are of version 1 (offset) and 2 (group), which compaction needs to be the same bytes for ever.
Values are of version 3, as Kafka 3.x writes them; an offset with its own expiry is of version 1, the only one
that has the field. Every version up to 4 is read. Source: ``GroupCoordinatorRecordHelpers.java``.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.groups.offsets import NO_TIMESTAMP, CommittedOffset
from ottla.messages.group_log import (
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_versioned,
    encode_versioned,
    read_version,
)
from ottla.wire.primitives import BytesLike

Record = tuple[bytes, bytes | None]
"""A key, and a value or a tombstone's None."""

_OFFSET_KEY = 1
_GROUP_KEY = 2
_VALUE = 3
_VALUE_WITH_EXPIRY = 1


class OffsetRecord(NamedTuple):
    """An offset that was committed, or (None) forgotten."""

    group_id: str
    topic: str
    partition: int
    committed: CommittedOffset | None


class GroupRecord(NamedTuple):
    """A group as it was, or (None) its end."""

    group_id: str
    value: GroupMetadataValue | None


def offset_record(group_id: str, topic: str, partition: int, committed: CommittedOffset) -> Record:
    """The record of a committed offset; raises ``EncodeError`` where a string is over 32767 bytes."""
    expiry_ms = committed.expire_timestamp_ms
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_timestamp_ms,
        expire_timestamp=expiry_ms,
    )
    version = _VALUE if expiry_ms == NO_TIMESTAMP else _VALUE_WITH_EXPIRY
    return _offset_key(group_id, topic, partition), encode_versioned(value, version)


def offset_tombstone(group_id: str, topic: str, partition: int) -> Record:
    """The record that ends a committed offset."""
    return _offset_key(group_id, topic, partition), None


def group_record(group_id: str, value: GroupMetadataValue) -> Record:
    """The record of a group; raises ``EncodeError`` where a string is over 32767 bytes."""
    return _group_key(group_id), encode_versioned(value, _VALUE)


def group_tombstone(group_id: str) -> Record:
    """The record that ends a group."""
    return _group_key(group_id), None


def read_record(key: BytesLike, value: BytesLike | None) -> OffsetRecord | GroupRecord | None:
    """What a record says; None for the kinds of KIP-848. Raises ``DecodeError``."""
    kind = read_version(key)
    if kind in (0, _OFFSET_KEY):
        offset_key, _ = decode_versioned(OffsetCommitKey, key)
        committed = None
        if value is not None:
            stored, _ = decode_versioned(OffsetCommitValue, value)
            committed = CommittedOffset(
                stored.offset,
                stored.leader_epoch,
                stored.metadata,
                stored.commit_timestamp,
                stored.expire_timestamp,
            )
        return OffsetRecord(offset_key.group, offset_key.topic, offset_key.partition, committed)
    if kind == _GROUP_KEY:
        group_key, _ = decode_versioned(GroupMetadataKey, key)
        if value is None:
            return GroupRecord(group_key.group, None)
        return GroupRecord(group_key.group, decode_versioned(GroupMetadataValue, value)[0])
    return None


def _offset_key(group_id: str, topic: str, partition: int) -> bytes:
    return encode_versioned(
        OffsetCommitKey(group=group_id, topic=topic, partition=partition), _OFFSET_KEY
    )


def _group_key(group_id: str) -> bytes:
    return encode_versioned(GroupMetadataKey(group=group_id), _GROUP_KEY)
