"""Whether a segment's copy holds what was once acknowledged: its checksums, and its offsets in order.

The rules kept here:

- What is checked is the copy, so that neither a bit that had changed in the original travels on unseen nor one that
  changed on the way. Where it does not hold, the original is looked at: it tells which of the two it was.
- A message format that is not ours is neither: such a segment is not copied, and nothing is said against it.

Blocks, a piece at a time: run it off the loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ottla.errors import ErrorCode, KafkaError
from ottla.log.disk import Disk
from ottla.log.verification.walk import Broken, walk
from ottla.records.batch import HEADER_BYTES, CorruptBatch, UnsupportedMagic, read_header


class SourceFailed(OSError):
    """The current log could not be read; any other ``OSError`` is the destination's."""

    @classmethod
    def of(cls, error: OSError) -> SourceFailed:
        """What was met when the current log was read."""
        return cls(error.errno, error.strerror, error.filename)


class SourceDamaged(KafkaError):
    """The current log has damaged bytes: it must not be served (KAFKA_STORAGE_ERROR)."""

    def __init__(self, reason: str) -> None:
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, reason)


class CopyCheck:
    """One segment's copy; ``done`` once it is known to be whole."""

    def __init__(
        self,
        disk: Disk,
        source: str,
        copy: str,
        base_offset: int,
        end_offset: int,
        piece_bytes: int,
    ) -> None:
        """``source`` and ``copy``: paths of the ``.log`` files. Nothing is opened before ``step``."""
        self._disk = disk
        self._source, self._copy = source, copy
        self._base_offset, self._end_offset = base_offset, end_offset
        self._piece_bytes = piece_bytes
        self._descriptor: int | None = None
        self._walk: Iterator[tuple[int, str | None]] = iter(())
        self._position = 0
        self.done = False

    def step(self) -> int:
        """Look at the next piece; returns 0, as it copies nothing.

        Raises ``SourceDamaged``; ``UnsupportedMagic``; ``CorruptBatch`` where only the copy is damaged;
        ``SourceFailed``, ``OSError``.
        """
        if self._descriptor is None:
            self._descriptor = self._disk.open(self._copy, os.O_RDONLY)
            self._walk = self._problems(self._descriptor)
        limit = self._position + self._piece_bytes
        for position, problem in self._walk:
            if problem is not None:
                self._blame(problem)
            self._position = position
            if position >= limit:
                return 0
        self.done = True
        return 0

    def close(self) -> None:
        """Close the copy."""
        if self._descriptor is not None:
            self._disk.close(self._descriptor)
            self._descriptor = None

    def _problems(self, descriptor: int) -> Iterator[tuple[int, str | None]]:
        """Where each batch ends, and what is wrong with it; it ends with the first that is."""
        next_offset = self._base_offset
        size = self._disk.size_of(descriptor)
        for found in walk(self._disk, descriptor, size):
            if isinstance(found, Broken):
                self._refuse_other_formats(descriptor, found.position)
                yield found.position, f"byte {found.position}: {found.reason}"
                return
            header = found.header
            if not found.intact:
                yield found.position, f"byte {found.position}: wrong checksum"
                return
            if header.base_offset < next_offset or not (
                header.base_offset <= header.last_offset < self._end_offset
            ):
                what = f"offsets {header.base_offset} to {header.last_offset} have no place here"
                yield found.position, f"byte {found.position}: {what}"
                return
            next_offset = header.next_offset
            yield found.position + header.size_bytes, None

    def _refuse_other_formats(self, descriptor: int, position: int) -> None:
        head = self._disk.read_fully(descriptor, HEADER_BYTES, position)
        try:
            read_header(head)
        except UnsupportedMagic:
            raise
        except KafkaError:
            return

    def _blame(self, problem: str) -> None:
        try:
            damage = self._damage_of_source()
        except FileNotFoundError:
            damage = None  # retention was there meanwhile: the next attempt copies without it
        except OSError as error:
            raise SourceFailed.of(error) from error
        if damage is not None:
            raise SourceDamaged(f"{self._source} is damaged at {damage}")
        raise CorruptBatch(f"{self._copy} is not what was copied, {problem}")

    def _damage_of_source(self) -> str | None:
        descriptor = self._disk.open(self._source, os.O_RDONLY)
        try:
            return next((why for _, why in self._problems(descriptor) if why is not None), None)
        finally:
            self._disk.close(descriptor)
