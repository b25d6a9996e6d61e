"""Which partition a record goes to when its sender names none.

With a key: murmur2, as Java's producer does. Without one: sticky (KIP-480, KIP-794): a partition keeps
getting records until it had its share of bytes and a batch ends, then a random other one takes its turn,
so that batches fill under any load and no fraction of one is left behind.

``Partitioner`` is what an application may pass instead: called with the topic, the key's bytes and
the number of partitions; None means "no opinion" and takes the sticky way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ottla.client.murmur2 import murmur2

Partitioner = Callable[[str, bytes | None, int], int | None]

STICKY_SHARE_BYTES = 16_384
"""What a partition gets before another takes its turn: Java's, whose batches are of that size."""

_REMEMBERED_KEYS = 8192


class KeyPartitioner:
    """Murmur2 with a memory of recent keys: hashing in Python costs more than a look-up."""

    __slots__ = ("_hashes",)

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}

    def __call__(self, topic: str, key: bytes | None, partition_count: int) -> int | None:
        """The key's partition, or None for a record without one."""
        if key is None:
            return None
        found = self._hashes.get(key)
        if found is None:
            if len(self._hashes) >= _REMEMBERED_KEYS:
                self._hashes.clear()
            found = self._hashes[key] = murmur2(key) & 0x7FFFFFFF
        return found % partition_count


class StickyPartition:
    """The partition that a topic's records without a key go to now.

    ``choose(n)`` picks one index of ``n`` (``random.randrange`` outside of tests).
    """

    __slots__ = ("_choose", "_left_bytes", "_share_bytes", "partition")

    def __init__(self, choose: Callable[[int], int], share_bytes: int = STICKY_SHARE_BYTES) -> None:
        self._choose = choose
        self._share_bytes = share_bytes
        self._left_bytes = 0
        self.partition = -1

    def at_batch_end(self, batch_bytes: int, available: Sequence[int]) -> int:
        """The partition for the next batch, after one of ``batch_bytes`` (0 before the first).

        ``available`` are the partitions with a leader, or all of them when none has one.
        """
        self._left_bytes -= batch_bytes
        if self._left_bytes <= 0 or self.partition not in available:
            self.partition = available[self._choose(len(available))]
            self._left_bytes = self._share_bytes
        return self.partition
