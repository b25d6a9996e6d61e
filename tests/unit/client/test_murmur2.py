"""The hash is Java's, to the bit."""

from __future__ import annotations

import pytest

from ottla.client.murmur2 import murmur2, partition_for_key


@pytest.mark.parametrize(
    ("data", "java"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hash_equals_the_golden_numbers_of_javas_utils_test(data: bytes, java: int) -> None:
    assert murmur2(data) == java & 0xFFFFFFFF


def test_partition_is_the_positive_part_modulo_the_count() -> None:
    assert partition_for_key(b"21", 7) == (-973932308 & 0x7FFFFFFF) % 7
    assert partition_for_key(b"abc", 100) == 479470107 % 100


def test_empty_key_has_a_partition() -> None:
    assert 0 <= partition_for_key(b"", 3) < 3
