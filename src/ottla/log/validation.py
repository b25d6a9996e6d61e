"""What a batch from a client must fulfil before it gets an offset.

The checks of Kafka's ``LogValidator`` and ``UnifiedLog.analyzeAndValidateRecords`` as far as the header
tells: the records inside stay opaque, except that those of a compacted topic must have keys. Where
Kafka looks at every record's timestamp, the first one's and the largest are looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ottla.errors import ErrorCode, KafkaError
from ottla.log.rules import LogRules
from ottla.records.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    LOG_OVERHEAD_BYTES,
    MAGIC,
    NO_TIMESTAMP_MS,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Bytes,
    CompressionType,
    CorruptBatch,
    InvalidRecord,
    read_header,
    verify_crc,
)

DECOMPRESSED_BYTES_MAX = 64 << 20
"""The most that a batch for a compacted topic may unpack to, when its keys are looked at."""

_CODECS = len(CompressionType)
_REFUSED_BITS = CONTROL_BIT | TRANSACTIONAL_BIT | TIMESTAMP_TYPE_BIT
_ERRORS_SHOWN = 3
RECORD_ERRORS_MAX = 1000
"""How many wrong records an answer names; the rest of the batch is not looked at."""
KEYS_PER_STEP = 500
"""How many records' keys are looked at in one go: about a millisecond."""


class InvalidRecords(InvalidRecord):
    """Some records of a batch break a rule; none of it is appended (INVALID_RECORD).

    ``record_errors``: (number in the batch, why) for each, as a Produce response tells (KIP-467).
    """

    def __init__(self, record_errors: list[tuple[int, str]]) -> None:
        self.record_errors = record_errors
        shown = "; ".join(f"record {index}: {why}" for index, why in record_errors[:_ERRORS_SHOWN])
        super().__init__(f"{len(record_errors)} records were refused: {shown}")


def is_plain(fields: tuple[Any, ...], size: int, rules: LogRules, now_ms: int) -> bool:
    """Whether a batch of ``size`` bytes passes ``read_header`` and ``check_client_batch`` at one look, as most do.

    ``fields`` are its header's. Those two say what is wrong with any other, or that nothing is.
    """
    (
        base, length, _, magic, _, attributes, delta, first_ms, largest_ms,
        producer_id, _, sequence, count,
    ) = fields  # fmt: skip
    return (
        length == size - LOG_OVERHEAD_BYTES
        and magic == MAGIC
        and base == 0
        and delta == count - 1
        and count > 0
        and 0 <= attributes < _CODECS
        and size <= rules.message_bytes_max
        and now_ms - first_ms <= rules.before_max_ms
        and largest_ms - now_ms <= rules.after_max_ms
        and (producer_id < 0 or sequence >= 0)
    )


def check_client_batch(
    records: Bytes,
    header: BatchHeader,
    rules: LogRules,
    now_ms: int,
    *,
    transactions: bool = False,
) -> None:
    """Check everything about the batch but its checksum and its producer's sequence.

    Raises ``KafkaError``: INVALID_RECORD, CORRUPT_MESSAGE, MESSAGE_TOO_LARGE,
    UNSUPPORTED_COMPRESSION_TYPE, INVALID_TIMESTAMP; INVALID_TXN_STATE for a transactional batch unless
    ``transactions``: no coordinator knows the transaction, and clients take that code as final.
    """
    size = LOG_OVERHEAD_BYTES + header.length
    if size != len(records):
        raise _wrong_size(size, len(records))
    if size > rules.message_bytes_max:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"batch of {size} bytes, max.message.bytes is {rules.message_bytes_max}",
        )
    if header.base_offset != 0:
        raise InvalidRecord(f"the base offset must be 0, it is {header.base_offset}")
    count = header.record_count
    if count <= 0 or header.last_offset_delta != count - 1:
        raise InvalidRecord(
            f"{count} records with a last offset delta of {header.last_offset_delta}"
        )
    attributes = header.attributes
    if attributes & COMPRESSION_MASK >= _CODECS:
        _ = header.compression  # raises UnsupportedCompression
    if attributes & _REFUSED_BITS:
        _check_attributes(attributes, rules, transactions)
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise InvalidRecord(f"producer {header.producer_id} gave sequence {header.base_sequence}")
    if (
        now_ms - header.base_timestamp_ms > rules.before_max_ms
        or header.max_timestamp_ms - now_ms > rules.after_max_ms
    ) and not rules.log_append_time:
        _check_timestamps(header, rules, now_ms)


def check_keys(records: Bytes) -> None:
    """Every record of a compacted topic needs a key. Raises ``InvalidRecords``, ``KafkaError``."""
    for _ in check_keys_in_steps(records):
        pass


def keys_take_long(header: BatchHeader) -> bool:
    """Whether ``check_keys`` may be more than a moment's work: a small batch may unpack to millions of records."""
    return header.attributes & COMPRESSION_MASK != 0 or header.record_count > KEYS_PER_STEP


def check_keys_in_steps(records: Bytes) -> Iterator[None]:
    """As ``check_keys``, in steps of ``KEYS_PER_STEP`` records; the first checks the checksum and unpacks."""
    from ottla.records.codec import iter_keys

    verify_crc(records, read_header(records))
    missing: list[tuple[int, str]] = []
    keys = iter_keys(records, max_decompressed_bytes=DECOMPRESSED_BYTES_MAX)
    for index, (_, key) in enumerate(keys):
        if key is None:
            missing.append((index, "a compacted topic takes no record without a key"))
            if len(missing) == RECORD_ERRORS_MAX:
                break
        if index % KEYS_PER_STEP == KEYS_PER_STEP - 1:
            yield
    if missing:
        raise InvalidRecords(missing)


def _wrong_size(size: int, available: int) -> KafkaError:
    if size > available:
        return CorruptBatch(f"batch of {size} bytes in {available}")
    return InvalidRecord(f"{available - size} bytes follow the one batch that may be sent")


def _check_attributes(attributes: int, rules: LogRules, transactions: bool) -> None:
    if attributes & CONTROL_BIT:
        raise InvalidRecord("clients may not write control records")
    if attributes & TRANSACTIONAL_BIT and not transactions:
        raise KafkaError(ErrorCode.INVALID_TXN_STATE, "the batch is part of no open transaction")
    if attributes & TIMESTAMP_TYPE_BIT and not rules.log_append_time:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP, "only the broker may set the LogAppendTime attribute"
        )


def _check_timestamps(header: BatchHeader, rules: LogRules, now_ms: int) -> None:
    largest = header.max_timestamp_ms
    if largest == NO_TIMESTAMP_MS:
        return
    oldest = header.base_timestamp_ms
    if now_ms - oldest > rules.before_max_ms or largest - now_ms > rules.after_max_ms:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamps from {oldest} to {largest} are not within "
            f"[{now_ms - rules.before_max_ms}, {now_ms + rules.after_max_ms}]",
        )
