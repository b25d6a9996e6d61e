"""Which transactions' records and markers compaction may take away. Sans-IO.

The rules kept here (``CleanedTransactionMetadata``):

- Records of an aborted transaction go, and are no key's latest.
- A marker stays until no batch of its transaction is left; only then does its delete horizon begin.
- The index of aborted transactions of a cleaned segment tells of those whose markers stay in it.

Nothing writes transactions here yet: they come with directories that Apache Kafka wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop
from struct import Struct
from typing import NamedTuple

from ottla.records.batch import BatchHeader

_ENTRY = Struct(">hqqqq")
_MARKER_KEY = Struct(">hh")
_ABORT, _COMMIT = 0, 1


class AbortedTransaction(NamedTuple):
    """An entry of a ``.txnindex``, ordered by the transaction's first offset."""

    first_offset: int
    last_offset: int
    producer_id: int
    last_stable_offset: int


class CleanedTransactions:
    """The transactions that are under way where the cleaner is in the log.

    ``retained`` takes the aborted ones whose markers stay; whoever writes the index empties it.
    """

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        """``aborted``: all aborted transactions with an offset in what will be read."""
        self._waiting = list(aborted)
        heapify(self._waiting)
        self._aborted: dict[int, AbortedTransaction] = {}
        self._seen: set[int] = set()
        self._committed: set[int] = set()
        self.retained: list[AbortedTransaction] = []

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether the data batch, the next one in order, belongs to an aborted transaction."""
        self._begin_up_to(header.last_offset)
        if not header.is_transactional:
            return False
        if header.producer_id in self._aborted:
            self._seen.add(header.producer_id)
            return True
        self._committed.add(header.producer_id)
        return False

    def may_discard(self, header: BatchHeader, key: bytes | None) -> bool:
        """Whether the control batch, the next one in order, has outlived its transaction's batches.

        ``key`` is its record's, None if compaction has emptied it before.
        """
        self._begin_up_to(header.last_offset)
        if key is None or len(key) < _MARKER_KEY.size:
            return key is None
        kind = _MARKER_KEY.unpack_from(key)[1]
        producer_id = header.producer_id
        if kind == _ABORT:
            aborted = self._aborted.pop(producer_id, None)
            if aborted is None or producer_id not in self._seen:
                return True
            self._seen.discard(producer_id)
            self.retained.append(aborted)
            return False
        if kind == _COMMIT:
            was_seen = producer_id in self._committed
            self._committed.discard(producer_id)
            return not was_seen
        return False

    def _begin_up_to(self, offset: int) -> None:
        while self._waiting and self._waiting[0].first_offset <= offset:
            begun = heappop(self._waiting)
            self._aborted.setdefault(begun.producer_id, begun)


def decode_aborted(content: bytes) -> list[AbortedTransaction]:
    """The entries of a ``.txnindex``; a part of one at the end is left out."""
    whole = len(content) - len(content) % _ENTRY.size
    return [
        AbortedTransaction(first, last, producer_id, stable)
        for _, producer_id, first, last, stable in _ENTRY.iter_unpack(content[:whole])
    ]


def encode_aborted(entries: Iterable[AbortedTransaction]) -> bytes:
    """A ``.txnindex``."""
    return b"".join(
        _ENTRY.pack(0, one.producer_id, one.first_offset, one.last_offset, one.last_stable_offset)
        for one in entries
    )
