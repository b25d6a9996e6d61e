"""The partition of a group: what Java's ``String.hashCode`` says."""

from __future__ import annotations

import pytest

from ottla.groups.partitioner import java_hash, partition_for


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("Aa", 2112),
        ("BB", 2112),
        ("polygenelubricants", -(1 << 31)),
        ("\U0001f600", 0xD83D * 31 + 0xDE00),
    ],
)
def test_hash_is_javas(text: str, code: int) -> None:
    assert java_hash(text) == code


def test_partitions_are_kafkas() -> None:
    assert partition_for("hello", 50) == 22
    assert partition_for("polygenelubricants", 50) == 0
    assert java_hash("consumers") == -421004483
    assert partition_for("consumers", 50) == 33
