"""Reading a segment's file batch by batch, with every checksum verified, in bounded memory.

Rules: whatever the bytes, the walk ends; at most a piece of the file (1 MiB) is in memory, whatever size a
batch claims; a batch with a wrong checksum is told of and the walk goes on behind it, as long as its length
leads to something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ottla.errors import KafkaError
from ottla.log.disk import Disk
from ottla.records.batch import CRC_COVERS_FROM, HEADER_BYTES, BatchHeader, read_header
from ottla.records.crc import crc32c

CHUNK_BYTES = 1 << 20


class WalkedBatch(NamedTuple):
    """A batch that lies whole in the file; ``intact``: its checksum is right."""

    position: int
    header: BatchHeader
    intact: bool


class Broken(NamedTuple):
    """The end of a walk before the file's end: no batch lies at ``position``.

    ``cut_short``: what lies there may be the start of a batch whose rest is missing.
    """

    position: int
    reason: str
    cut_short: bool


def walk(
    disk: Disk, descriptor: int, size_bytes: int, on_bytes: Callable[[int], None] | None = None
) -> Iterator[WalkedBatch | Broken]:
    """Every batch of the first ``size_bytes`` of a file, then perhaps a ``Broken``.

    ``on_bytes(count)`` is told of progress. Raises ``OSError``.
    """
    position = 0
    while position < size_bytes:
        wanted = min(CHUNK_BYTES, size_bytes - position)
        chunk = memoryview(disk.read_fully(descriptor, wanted, position))
        if len(chunk) < wanted:
            yield Broken(position, "the file became shorter while it was read", True)
            return
        at = 0
        while at < wanted:
            left = size_bytes - position - at
            if wanted - at < min(HEADER_BYTES, left):
                break
            found = _batch_at(disk, descriptor, chunk, at, position, left)
            if found is None:
                break
            yield found
            if isinstance(found, Broken):
                return
            at += found.header.size_bytes
        if on_bytes is not None:
            on_bytes(at)
        position += at


def _batch_at(
    disk: Disk, descriptor: int, chunk: memoryview, at: int, position: int, left: int
) -> WalkedBatch | Broken | None:
    """The batch at ``at`` in ``chunk``; None where the chunk has to be read again from there."""
    try:
        header = read_header(chunk, at)
    except KafkaError as error:
        return Broken(position + at, error.message or str(error), left < HEADER_BYTES)
    size = header.size_bytes
    if size > left:
        reason = f"a batch of {size} bytes begins {left} bytes before the end"
        return Broken(position + at, reason, True)
    if at + size <= len(chunk):
        computed = crc32c(chunk[at + CRC_COVERS_FROM : at + size])
    elif at:
        return None
    else:
        computed = checksum(disk, descriptor, position, size)
    return WalkedBatch(position + at, header, computed == header.crc)


def checksum(disk: Disk, descriptor: int, position: int, size_bytes: int) -> int:
    """The checksum of the batch at ``position``, read in pieces. Raises ``OSError``."""
    computed, end = 0, position + size_bytes
    position += CRC_COVERS_FROM
    while position < end:
        piece = disk.read_fully(descriptor, min(CHUNK_BYTES, end - position), position)
        if not piece:
            break
        computed = crc32c(piece, computed)
        position += len(piece)
    return computed


def identity(descriptor: int) -> tuple[int, int]:
    """Which file an open one is, whatever it is called."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
