"""The latest offset of each key, in a fixed amount of memory: what compaction is decided by.

The rules kept here (``SkimpyOffsetMap``):

- An entry is 24 bytes: 128 bits of a hash of the key, and the offset. Keys themselves are not kept, so two keys
  with one hash would be taken for one; the hash is keyed with a secret of each run, so that nobody can
  choose such keys.
- Nothing is ever removed. Its user asks ``is_full`` before each ``put``.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b
from struct import Struct

ENTRY_BYTES = 24
_WORDS = 3
_HASH_BYTES = 16
_PRIME_GAP = 512  # no two primes of this size lie further apart
_hash_words = Struct("=QQ").unpack


class OffsetMap:
    """Open addressing with a second hash for the step; pages that no key came to take no memory.

    ``latest_offset`` is the last offset that has been looked at, keys or not; -1 for none.
    """

    __slots__ = ("_capacity", "_memory", "_secret", "_slots", "_words", "entries", "latest_offset")

    def __init__(self, memory_bytes: int, load_factor: float, keys_max: int) -> None:
        """Room for as many keys as ``memory_bytes`` and ``load_factor`` (up to 1) allow, ``keys_max`` at most.

        Raises ``ValueError`` where that is not one.
        """
        wanted = int((keys_max + 1) / load_factor) + _PRIME_GAP if load_factor > 0 else 0
        slots = min(memory_bytes // ENTRY_BYTES, wanted)
        self._slots = _prime_at_most(slots)
        self._capacity = min(int(self._slots * load_factor), self._slots - 1)
        if self._capacity < 1:
            raise ValueError(f"{memory_bytes} bytes, {load_factor} full, have no room for a key")
        self._memory = mmap.mmap(-1, self._slots * ENTRY_BYTES)
        self._words = memoryview(self._memory).cast("Q")
        self._secret = os.urandom(_HASH_BYTES)
        self.entries = 0
        self.latest_offset = -1

    @property
    def is_full(self) -> bool:
        """Whether no further key should be put."""
        return self.entries >= self._capacity

    @property
    def utilization(self) -> float:
        """How full it is, of all its slots."""
        return self.entries / self._slots

    def put(self, key: bytes, offset: int) -> None:
        """``offset`` is the latest of ``key`` so far."""
        first, second = _hash_words(
            blake2b(key, digest_size=_HASH_BYTES, key=self._secret).digest()
        )
        words, at = self._words, self._place(first, second)
        if not words[at + 2]:
            words[at], words[at + 1] = first, second
            self.entries += 1
        words[at + 2] = offset + 1

    def get(self, key: bytes) -> int:
        """The latest offset of ``key``; -1 if it was never put."""
        digest = blake2b(key, digest_size=_HASH_BYTES, key=self._secret).digest()
        offset: int = self._words[self._place(*_hash_words(digest)) + 2] - 1
        return offset

    def _place(self, first: int, second: int) -> int:
        """Where the words of such a hash lie, or would: there is always a free slot."""
        words, slots = self._words, self._slots
        slot, step = first % slots, 1 + second % (slots - 1)
        while True:
            at = slot * _WORDS
            if not words[at + 2] or (words[at] == first and words[at + 1] == second):
                return at
            slot = (slot + step) % slots

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._memory.close()


def _prime_at_most(number: int) -> int:
    """The largest prime up to ``number``, so that every step comes to every slot; 0 if there is none."""
    while number > 1:
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            return number
        number -= 1
    return 0
