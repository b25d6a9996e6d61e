"""What a batch from a client must fulfil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.validation import (
    KEYS_PER_STEP,
    RECORD_ERRORS_MAX,
    InvalidRecords,
    check_keys_in_steps,
    keys_take_long,
)
from ottla.records.batch import CompressionType, pack_header, read_header
from ottla.records.builder import build_batch
from tests.unit.log.samples import NOW_MS, batch, disk, header_of, idempotent, new_log


def changed(content: bytearray, **fields: Any) -> bytearray:
    """The batch with other header fields and the checksum that fits them."""
    pack_header(content, header_of(content)._replace(**fields))
    return content


def with_byte(content: bytearray, position: int, value: int) -> bytearray:
    content[position] = value
    return content


REFUSED: dict[str, tuple[Callable[[], bytearray], ErrorCode]] = {
    "no batch at all": (lambda: bytearray(), ErrorCode.CORRUPT_MESSAGE),
    "half a header": (lambda: batch()[:40], ErrorCode.CORRUPT_MESSAGE),
    "a partial batch": (lambda: batch()[:-1], ErrorCode.CORRUPT_MESSAGE),
    "two batches": (lambda: batch() + batch(), ErrorCode.INVALID_RECORD),
    "bytes behind the batch": (lambda: batch() + b"x", ErrorCode.INVALID_RECORD),
    "a flipped bit": (lambda: with_byte(batch(), -1, 0x55), ErrorCode.CORRUPT_MESSAGE),
    "magic 1": (lambda: with_byte(batch(), 16, 1), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
    "magic 3": (lambda: with_byte(batch(), 16, 3), ErrorCode.CORRUPT_MESSAGE),
    "a base offset": (lambda: changed(batch(), base_offset=1), ErrorCode.INVALID_RECORD),
    "no records": (
        lambda: changed(batch(), record_count=0, last_offset_delta=-1),
        ErrorCode.INVALID_RECORD,
    ),
    "a wrong count": (lambda: changed(batch(2), record_count=3), ErrorCode.INVALID_RECORD),
    "codec 5": (
        lambda: changed(batch(), attributes=5),
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    ),
    "a control batch": (lambda: changed(batch(), attributes=0x20), ErrorCode.INVALID_RECORD),
    "a transactional batch": (
        lambda: changed(idempotent(1, 0), attributes=0x10),
        ErrorCode.INVALID_TXN_STATE,
    ),
    "the broker's timestamp type": (
        lambda: changed(batch(), attributes=0x08),
        ErrorCode.INVALID_TIMESTAMP,
    ),
    "a producer without sequence": (
        lambda: changed(batch(), producer_id=4, producer_epoch=0),
        ErrorCode.INVALID_RECORD,
    ),
    "a batch above the limit": (lambda: batch(size=2000), ErrorCode.MESSAGE_TOO_LARGE),
}


@pytest.mark.parametrize("what", REFUSED)
def test_client_is_refused(what: str) -> None:
    make, code = REFUSED[what]
    log = new_log(disk(), max_message_bytes=1000)
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(make(), 0, NOW_MS)
    assert caught.value.code is code
    assert log.log_end_offset == 0
    assert not log.is_on_disk


def test_limit_is_on_the_whole_batch() -> None:
    size = len(batch(size=500))
    new_log(disk(), max_message_bytes=size).append_as_leader(batch(size=500), 0, NOW_MS)
    with pytest.raises(KafkaError):
        new_log(disk(), max_message_bytes=size - 1).append_as_leader(batch(size=500), 0, NOW_MS)


@pytest.mark.parametrize(
    ("timestamp_ms", "code"),
    [
        (NOW_MS - 1000, None),
        (NOW_MS - 1001, ErrorCode.INVALID_TIMESTAMP),
        (NOW_MS + 500 - 1, None),
        (NOW_MS + 501 - 1, ErrorCode.INVALID_TIMESTAMP),
    ],
)
def test_timestamps_are_bounded(timestamp_ms: int, code: ErrorCode | None) -> None:
    log = new_log(disk(), message_timestamp_before_max_ms=1000, message_timestamp_after_max_ms=500)
    two = batch(2, timestamp_ms=timestamp_ms)  # the second one is a millisecond later
    if code is None:
        log.append_as_leader(two, 0, NOW_MS)
    else:
        with pytest.raises(KafkaError) as caught:
            log.append_as_leader(two, 0, NOW_MS)
        assert caught.value.code is code


def test_records_without_time_are_taken() -> None:
    log = new_log(disk(), message_timestamp_before_max_ms=1000, message_timestamp_after_max_ms=1000)
    assert log.append_as_leader(batch(timestamp_ms=-1), 0, NOW_MS).base_offset == 0


def test_bounds_do_not_hold_under_log_append_time() -> None:
    log = new_log(
        disk(), message_timestamp_before_max_ms=1000, message_timestamp_type="LogAppendTime"
    )
    assert log.append_as_leader(batch(timestamp_ms=1), 0, NOW_MS).base_offset == 0


@pytest.mark.parametrize("codec", CompressionType)
def test_compacted_topic_requires_keys(codec: CompressionType) -> None:
    log = new_log(disk(), cleanup_policy="compact")
    keyed = build_batch([(NOW_MS, b"k", b"v", [])], compression=codec)
    log.append_as_leader(bytearray(keyed), 0, NOW_MS)
    mixed = build_batch(
        [(NOW_MS, b"k", b"v", []), (NOW_MS, None, b"v", []), (NOW_MS, None, b"v", [])],
        compression=codec,
    )
    with pytest.raises(InvalidRecords) as caught:
        log.append_as_leader(bytearray(mixed), 0, NOW_MS)
    assert caught.value.code is ErrorCode.INVALID_RECORD
    assert [index for index, _ in caught.value.record_errors] == [1, 2]
    assert log.log_end_offset == 1


@pytest.mark.parametrize("codec", CompressionType)
def test_no_more_wrong_records_are_named_than_an_answer_should_hold(codec: CompressionType) -> None:
    log = new_log(disk(), cleanup_policy="compact")
    keyless = build_batch([(NOW_MS, None, b"v", [])] * 5000, compression=codec)
    with pytest.raises(InvalidRecords) as caught:
        log.append_as_leader(bytearray(keyless), 0, NOW_MS)
    assert len(caught.value.record_errors) == RECORD_ERRORS_MAX
    assert log.log_end_offset == 0


def test_a_batch_of_many_keys_is_looked_at_in_steps() -> None:
    keyed = build_batch([(NOW_MS, b"k", b"v", [])] * 5000, compression=CompressionType.ZSTD)
    assert keys_take_long(read_header(keyed))
    assert len(list(check_keys_in_steps(keyed))) == 5000 // KEYS_PER_STEP
    assert not keys_take_long(read_header(build_batch([(NOW_MS, b"k", b"v", [])])))
