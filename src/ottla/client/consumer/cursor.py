"""One record at a time out of a chunk, for iteration: what is handed out and what is passed, to the record.

A record is passed when the next one is asked for. What is left of a chunk when an iteration ends goes to the
next ``poll`` or iteration. A partition that was sought, reset or taken away meanwhile has its rest dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

from ottla.client.consumer.fetched import Chunk
from ottla.client.consumer.positions import PartitionState
from ottla.client.record import Record


class Cursor:
    """Stands in one chunk, with others behind it."""

    __slots__ = ("_chunk", "_chunks", "_next", "_records")

    def __init__(self) -> None:
        self._chunk: Chunk | None = None
        self._records: list[Record] = []
        self._next = 0
        self._chunks: list[Chunk] = []

    @property
    def place(self) -> tuple[int, int]:
        """Another value after every record that is handed out."""
        chunk = self._chunk
        return (len(self._chunks), self._next if chunk is not None else -1)

    def load(self, chunks: list[Chunk]) -> None:
        """Go on with these, behind what is left."""
        self._chunks = chunks[::-1] + self._chunks

    def has_records(self) -> bool:
        """Whether there is anything left that still counts."""
        return any(state.version == version for state, version in self._held())

    def holds(self, state: PartitionState) -> bool:
        """Whether there are records of this partition left."""
        return any(held is state for held, _ in self._held())

    def _held(self) -> Iterator[tuple[PartitionState, int]]:
        if self._chunk is not None and self._next < len(self._records):
            yield self._chunk.state, self._chunk.version
        for chunk in self._chunks:
            if chunk.records:
                yield chunk.state, chunk.version

    def next_record(self) -> Record | None:
        """The next record, with the one before it passed; None when there are no more."""
        while True:
            chunk = self._chunk
            if chunk is not None:
                state = chunk.state
                if state.version == chunk.version:
                    index = self._next
                    if index < len(self._records):
                        state.passed = state.position
                        state.passed_epoch = state.position_epoch
                        record = self._records[index]
                        self._next = index + 1
                        state.position = record.offset + 1
                        state.position_epoch = chunk.epoch
                        return record
                    state.handed_out(chunk.end_offset, chunk.epoch)
                    state.pass_handed_out()
                self._chunk = None
            if not self._chunks:
                return None
            self._chunk = self._chunks.pop()
            self._records = self._chunk.records
            self._next = 0

    def rest(self, max_records: int) -> list[Chunk]:
        """Take what is left, up to so many records."""
        chunks: list[Chunk] = []
        if self._chunk is not None:
            self._chunks.append(self._chunk._replace(records=self._records[self._next :]))
            self._chunk = None
        while self._chunks and max_records > 0:
            chunk = self._chunks.pop()
            if chunk.state.version != chunk.version:
                continue
            if len(chunk.records) > max_records:
                self._chunks.append(chunk._replace(records=chunk.records[max_records:]))
                records = chunk.records[:max_records]
                chunk = chunk._replace(records=records, end_offset=records[-1].offset + 1)
            chunks.append(chunk)
            max_records -= len(chunk.records)
        return chunks
