"""Which partition of ``__consumer_offsets`` keeps a group: Java's string hash, as every client expects it."""

from __future__ import annotations


def java_hash(text: str) -> int:
    """``String.hashCode``: over UTF-16 units, as a signed 32-bit number."""
    code = 0
    units = memoryview(text.encode("utf-16-be", "surrogatepass"))
    for position in range(0, len(units), 2):
        code = (code * 31 + (units[position] << 8 | units[position + 1])) & 0xFFFFFFFF
    return code - (1 << 32) if code & 0x80000000 else code


def partition_for(group_id: str, partitions: int) -> int:
    """The partition of a group among ``partitions``. Source: ``Utils.abs``: the smallest int counts as 0."""
    code = java_hash(group_id)
    return 0 if code == -(1 << 31) else abs(code) % partitions
