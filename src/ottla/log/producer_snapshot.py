"""The bytes of a ``.snapshot`` file: the producers of a partition as of the offset in its name.

int16 version 1, uint32 CRC32C of everything from byte 6 on, then an array of entries of 46 bytes.
Of each producer only the last batch is kept. Sources: ``ProducerSnapshot.json``,
``ProducerStateManager.readSnapshot``. Sans-IO.
"""

from __future__ import annotations

from struct import Struct

from ottla.log.producer_state import AppendedBatch, ProducerEntry
from ottla.records.crc import crc32c

VERSION = 1
_HEAD = Struct(">hIi")
_CRC_COVERS_FROM = 6
_ENTRY = Struct(">qhiqiqiq")


class CorruptSnapshot(Exception):
    """The bytes are no snapshot of a version that is known here."""


def encode_snapshot(producers: dict[int, ProducerEntry]) -> bytes:
    """The file's content, producers in order of their ids."""
    parts = [b""]
    for producer_id in sorted(producers):
        entry = producers[producer_id]
        parts.append(
            _ENTRY.pack(
                producer_id,
                entry.epoch,
                entry.last_sequence,
                entry.last_offset,
                entry.offset_delta,
                entry.last_timestamp_ms,
                entry.coordinator_epoch,
                entry.transaction_first_offset,
            )
        )
    content = bytearray(_HEAD.pack(VERSION, 0, len(producers)) + b"".join(parts))
    checksum = crc32c(memoryview(content)[_CRC_COVERS_FROM:])
    _HEAD.pack_into(content, 0, VERSION, checksum, len(producers))
    return bytes(content)


def decode_snapshot(content: bytes) -> dict[int, ProducerEntry]:
    """The producers of a snapshot. Raises ``CorruptSnapshot``, whatever the bytes."""
    if len(content) < _HEAD.size:
        raise CorruptSnapshot(f"{len(content)} bytes")
    version, checksum, count = _HEAD.unpack_from(content)
    if version != VERSION:
        raise CorruptSnapshot(f"version {version}")
    if count < 0 or len(content) != _HEAD.size + count * _ENTRY.size:
        raise CorruptSnapshot(f"{count} producers in {len(content)} bytes")
    computed = crc32c(memoryview(content)[_CRC_COVERS_FROM:])
    if computed != checksum:
        raise CorruptSnapshot(f"stored checksum {checksum:#010x}, computed {computed:#010x}")
    producers = {}
    for fields in _ENTRY.iter_unpack(memoryview(content)[_HEAD.size :]):
        producer_id, epoch, sequence, offset, delta, timestamp_ms, coordinator, transaction = fields
        batches = [AppendedBatch(sequence, offset, delta, timestamp_ms)] if offset >= 0 else []
        producers[producer_id] = ProducerEntry(
            producer_id,
            epoch,
            coordinator_epoch=coordinator,
            last_timestamp_ms=timestamp_ms,
            transaction_first_offset=transaction if transaction >= 0 else -1,
            batches=batches,
        )
    return producers
