"""The records of ``__consumer_offsets``: Kafka's bytes, written out by hand here."""

from __future__ import annotations

import struct

import pytest

from ottla.groups.group_records import (
    GroupRecord,
    OffsetRecord,
    group_record,
    group_tombstone,
    offset_record,
    offset_tombstone,
    read_record,
)
from ottla.groups.offsets import CommittedOffset
from ottla.messages.group_log import GroupMetadataValue, MemberMetadata
from ottla.wire.primitives import DecodeError, EncodeError


def text(value: str) -> bytes:
    """A string as Kafka's inflexible formats have it."""
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def test_an_offset_is_written_as_key_1_and_value_3() -> None:
    key, value = offset_record("g", "orders", 7, CommittedOffset(42, 5, "meta", 1_000))
    assert key == struct.pack(">h", 1) + text("g") + text("orders") + struct.pack(">i", 7)
    assert value == struct.pack(">hqi", 3, 42, 5) + text("meta") + struct.pack(">q", 1_000)


def test_an_offset_with_its_own_expiry_is_written_as_value_1() -> None:
    _, value = offset_record("g", "orders", 7, CommittedOffset(42, -1, "", 1_000, 9_000))
    assert value == struct.pack(">hq", 1, 42) + text("") + struct.pack(">qq", 1_000, 9_000)


def test_a_group_is_written_as_key_2_and_value_3() -> None:
    key, value = group_record(
        "g",
        GroupMetadataValue(
            protocol_type="consumer",
            generation=3,
            protocol="range",
            leader="a",
            current_state_timestamp=5,
            members=[
                MemberMetadata(
                    member_id="a",
                    group_instance_id=None,
                    client_id="c",
                    client_host="/127.0.0.1",
                    rebalance_timeout=60_000,
                    session_timeout=10_000,
                    subscription=b"sub",
                    assignment=b"asg",
                )
            ],
        ),
    )
    assert key == struct.pack(">h", 2) + text("g")
    head = struct.pack(">h", 3) + text("consumer") + struct.pack(">i", 3) + text("range")
    head += text("a") + struct.pack(">qi", 5, 1)
    member = text("a") + struct.pack(">h", -1) + text("c") + text("/127.0.0.1")
    member += struct.pack(">ii", 60_000, 10_000) + struct.pack(">i", 3) + b"sub"
    assert value == head + member + struct.pack(">i", 3) + b"asg"


def test_what_was_written_is_read_again() -> None:
    committed = CommittedOffset(42, 5, "méta", 1_000, -1)
    assert read_record(*offset_record("g", "t", 1, committed)) == OffsetRecord(
        "g", "t", 1, committed
    )
    assert read_record(*offset_tombstone("g", "t", 1)) == OffsetRecord("g", "t", 1, None)
    group = GroupMetadataValue(protocol_type="consumer", generation=1)
    assert read_record(*group_record("g", group)) == GroupRecord("g", group)
    assert read_record(*group_tombstone("g")) == GroupRecord("g", None)


def test_an_offset_of_every_older_version_is_read() -> None:
    key = struct.pack(">h", 0) + text("g") + text("t") + struct.pack(">i", 1)
    v0 = struct.pack(">hq", 0, 7) + text("m") + struct.pack(">q", 100)
    v1 = struct.pack(">hq", 1, 7) + text("m") + struct.pack(">qq", 100, 900)
    v2 = struct.pack(">hq", 2, 7) + text("m") + struct.pack(">q", 100)
    v4 = struct.pack(">hqi", 4, 7, 3) + b"\x02m" + struct.pack(">q", 100) + b"\x00"
    expected = [(-1, -1), (-1, 900), (-1, -1), (3, -1)]
    for value, (epoch, expiry) in zip((v0, v1, v2, v4), expected, strict=True):
        assert read_record(key, value) == OffsetRecord(
            "g", "t", 1, CommittedOffset(7, epoch, "m", 100, expiry)
        )


def test_records_of_newer_groups_are_passed_over() -> None:
    for kind in (*range(3, 9), 16, 99):
        assert read_record(struct.pack(">h", kind) + text("g"), b"") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", None),
        (b"\x00", None),
        (b"\x00\x01\x00\x05g", None),
        (b"\x00\x02\x00\x01g", b""),
        (b"\x00\x02\x00\x01g", b"\x00\x63"),
    ],
)
def test_bytes_that_are_no_record_are_an_error(key: bytes, value: bytes | None) -> None:
    with pytest.raises(DecodeError):
        read_record(key, value)


def test_a_string_that_no_record_can_hold_is_an_error() -> None:
    with pytest.raises(EncodeError):
        offset_tombstone("g" * 40_000, "t", 0)
