"""What is in the files of a log, for people: ``ottla log dump``.

Every function yields one mapping a line, with Kafka's own field names (``DumpLogSegments``);
``to_line`` makes text of it. Files are opened for reading only, and read as they are: what is damaged is
told of in an ``error`` field, and ends the segment it is in. Keys and values are shown only on request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from struct import Struct

from ottla.errors import KafkaError
from ottla.log import names
from ottla.log.checkpoints import (
    CorruptCheckpoint,
    decode_clean_shutdown,
    decode_epochs,
    decode_meta_properties,
    decode_not_closed,
    decode_offsets,
    decode_partition_metadata,
)
from ottla.log.disk import Disk
from ottla.log.offset_index import OffsetIndex
from ottla.log.producer_snapshot import CorruptSnapshot, decode_snapshot
from ottla.log.room import is_room
from ottla.log.sparse_index import SparseIndex
from ottla.log.time_index import TimeIndex
from ottla.records.batch import (
    HEADER_BYTES,
    BatchHeader,
    CorruptBatch,
    TimestampType,
    read_header,
    verify_crc,
)
from ottla.topic_ids import to_text

Line = Mapping[str, object]

_PASSING_SUFFIXES = (names.DELETED_SUFFIX, names.CLEANED_SUFFIX, names.SWAP_SUFFIX)
_ABORTED_TRANSACTION = Struct(">hqqqq")
_TIMESTAMP_NAMES = {
    TimestampType.CREATE_TIME: "CreateTime",
    TimestampType.LOG_APPEND_TIME: "LogAppendTime",
}


class UnknownFile(ValueError):
    """A file that is none of a log's, by its name."""


def to_line(fields: Line) -> str:
    """``name: value name: value``, as Kafka's tool prints it; a record's line begins with ``|``."""
    text = " ".join(f"{name}: {_text(value)}" for name, value in fields.items())
    return f"| {text}" if "offset" in fields and "keySize" in fields else text


def dump(
    path: str, *, deep: bool = False, contents: bool = False, disk: Disk | None = None
) -> Iterator[Line]:
    """The lines of any file of a log directory, by its name.

    ``deep``: a segment's records too; ``contents``: with their keys and values. Raises
    ``UnknownFile``, ``OSError``.
    """
    disk = disk if disk is not None else Disk()
    name = os.path.basename(path)
    for suffix in _PASSING_SUFFIXES:
        name = name.removesuffix(suffix)
    base_offset = names.offset_of(name)
    if base_offset is not None and name.endswith(names.LOG_SUFFIX):
        yield from dump_log(path, deep=deep or contents, contents=contents, disk=disk)
    elif base_offset is not None and name.endswith(names.INDEX_SUFFIX):
        yield from dump_offset_index(path, base_offset, disk)
    elif base_offset is not None and name.endswith(names.TIME_INDEX_SUFFIX):
        yield from dump_time_index(path, base_offset, disk)
    elif base_offset is not None and name.endswith(names.SNAPSHOT_SUFFIX):
        yield from dump_snapshot(path, disk)
    elif base_offset is not None and name.endswith(names.TRANSACTION_INDEX_SUFFIX):
        yield from dump_transaction_index(path, disk)
    else:
        yield from _dump_small_file(path, name, disk)


def dump_log(path: str, *, deep: bool, contents: bool, disk: Disk) -> Iterator[Line]:
    """The batches of a segment, each with its checksum verified; with ``deep`` their records.

    Zeros behind the last one are room for more (``room``) and no error.
    """
    descriptor = disk.open(path, os.O_RDONLY)
    try:
        size, position = disk.size_of(descriptor), 0
        while position < size:
            try:
                head = disk.pread(descriptor, HEADER_BYTES, position)
                header = read_header(head)
                batch = disk.read_fully(descriptor, header.size_bytes, position)
                if len(batch) < header.size_bytes:
                    raise CorruptBatch(f"the batch has {header.size_bytes} bytes")
            except KafkaError as error:
                if is_room(disk, descriptor, position, size):
                    return
                left = size - position
                yield {"position": position, "size": left, "error": error.message}
                return
            yield _batch_line(header, batch, position)
            if deep:
                yield from _record_lines(header, batch, contents)
            position += header.size_bytes
    finally:
        disk.close(descriptor)


def _batch_line(header: BatchHeader, batch: bytes, position: int) -> Line:
    fields: dict[str, object] = {
        "baseOffset": header.base_offset,
        "lastOffset": header.last_offset,
        "count": header.record_count,
        "baseSequence": header.base_sequence,
        "lastSequence": header.last_sequence,
        "producerId": header.producer_id,
        "producerEpoch": header.producer_epoch,
        "partitionLeaderEpoch": header.leader_epoch,
        "isTransactional": header.is_transactional,
        "isControl": header.is_control,
        "position": position,
        _TIMESTAMP_NAMES[header.timestamp_type]: header.max_timestamp_ms,
        "size": header.size_bytes,
        "magic": header.magic,
        "compresscodec": _codec_name(header),
        "crc": header.crc,
        "isvalid": True,
    }
    try:
        verify_crc(batch, header)
    except CorruptBatch as error:
        fields["isvalid"] = False
        fields["error"] = error.message
    return fields


def _codec_name(header: BatchHeader) -> str:
    try:
        return header.compression.name.lower()
    except KafkaError:
        return "unknown"


def _record_lines(header: BatchHeader, batch: bytes, contents: bool) -> Iterator[Line]:
    from ottla.records.codec import decode_in_chunks

    time_name = _TIMESTAMP_NAMES[header.timestamp_type]
    number = 0
    try:
        for records, _ in decode_in_chunks(batch, header=header):
            for record in records:
                fields: dict[str, object] = {
                    "offset": record.offset,
                    time_name: record.timestamp_ms,
                    "keySize": -1 if record.key is None else len(record.key),
                    "valueSize": -1 if record.value is None else len(record.value),
                    "sequence": -1 if header.base_sequence < 0 else header.base_sequence + number,
                    "headerKeys": [key for key, _ in record.headers],
                }
                if contents:
                    fields["key"] = record.key
                    fields["payload"] = record.value
                yield fields
                number += 1
    except KafkaError as error:
        yield {"error": error.message}


def dump_offset_index(path: str, base_offset: int, disk: Disk) -> Iterator[Line]:
    """The entries of an ``.index`` file."""
    for relative, position in _entries(OffsetIndex, path, disk):
        yield {"offset": base_offset + relative, "position": position}


def dump_time_index(path: str, base_offset: int, disk: Disk) -> Iterator[Line]:
    """The entries of a ``.timeindex`` file."""
    for timestamp_ms, relative in _entries(TimeIndex, path, disk):
        yield {"timestamp": timestamp_ms, "offset": base_offset + relative}


def _entries(kind: type[SparseIndex], path: str, disk: Disk) -> Iterator[tuple[int, int]]:
    """All whole entries up to the first of zeros: Kafka preallocates the index of an active segment."""
    content = disk.read_file(path)
    size = kind.ENTRY.size
    whole = len(content) // size * size
    for number, entry in enumerate(kind.ENTRY.iter_unpack(content[:whole])):
        if number and entry == (0, 0):
            return
        yield entry


def dump_snapshot(path: str, disk: Disk) -> Iterator[Line]:
    """The producers of a ``.snapshot`` file."""
    try:
        producers = decode_snapshot(disk.read_file(path))
    except CorruptSnapshot as error:
        yield {"error": str(error)}
        return
    for producer_id, entry in producers.items():
        yield {
            "producerId": producer_id,
            "producerEpoch": entry.epoch,
            "coordinatorEpoch": entry.coordinator_epoch,
            "currentTxnFirstOffset": entry.transaction_first_offset,
            "lastTimestamp": entry.last_timestamp_ms,
            "lastSequence": entry.last_sequence,
            "lastOffset": entry.last_offset,
            "offsetDelta": entry.offset_delta,
        }


def dump_transaction_index(path: str, disk: Disk) -> Iterator[Line]:
    """The aborted transactions of a ``.txnindex`` file."""
    content = disk.read_file(path)
    size = _ABORTED_TRANSACTION.size
    for at in range(0, len(content) - size + 1, size):
        version, producer_id, first, last, stable = _ABORTED_TRANSACTION.unpack_from(content, at)
        yield {
            "version": version,
            "producerId": producer_id,
            "firstOffset": first,
            "lastOffset": last,
            "lastStableOffset": stable,
        }


def _dump_small_file(path: str, name: str, disk: Disk) -> Iterator[Line]:
    content = disk.read_file(path)
    try:
        if name == names.LEADER_EPOCH_CHECKPOINT:
            for epoch, start_offset in decode_epochs(content):
                yield {"epoch": epoch, "startOffset": start_offset}
        elif name.endswith("-offset-checkpoint"):
            for (topic, partition), offset in decode_offsets(content).items():
                yield {"topic": topic, "partition": partition, "offset": offset}
        elif name == names.PARTITION_METADATA:
            yield {"topicId": to_text(decode_partition_metadata(content))}
        elif name == names.META_PROPERTIES:
            meta = decode_meta_properties(content)
            yield {"brokerId": meta.broker_id, "clusterId": meta.cluster_id}
        elif name == names.CLEAN_SHUTDOWN:
            yield {"brokerEpoch": decode_clean_shutdown(content)}
            for directory in sorted(decode_not_closed(content) or ()):
                yield {"notClosed": directory}
        else:
            raise UnknownFile(f"{path} is no file of a log, by its name")
    except CorruptCheckpoint as error:
        yield {"error": str(error)}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(str(item) for item in value)}]"
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)
