"""What a partition lets its idempotent producers write."""

from __future__ import annotations

from errno import ENOSPC

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.log import AppendInfo, Log
from ottla.log.producer_snapshot import CorruptSnapshot, decode_snapshot, encode_snapshot
from ottla.log.producer_state import AppendedBatch, ProducerEntry, ProducerState
from ottla.records.batch import BatchHeader
from tests.unit.log.samples import NOW_MS, disk, header_of, idempotent, new_log, offsets, reopened


def send(
    log: Log, sequence: int, count: int = 1, *, epoch: int = 0, now: int = NOW_MS
) -> AppendInfo:
    return log.append_as_leader(idempotent(9, sequence, count, epoch), 0, now)


def refused(log: Log, sequence: int, count: int = 1, *, epoch: int = 0) -> ErrorCode:
    end = log.log_end_offset
    with pytest.raises(KafkaError) as caught:
        send(log, sequence, count, epoch=epoch)
    assert log.log_end_offset == end
    return caught.value.code


def test_sequences_continue() -> None:
    log = new_log(disk())
    assert [send(log, sequence, 2).base_offset for sequence in (0, 2, 4)] == [0, 2, 4]


def test_duplicates_of_the_last_five_batches_get_their_first_offset() -> None:
    log = new_log(disk())
    for sequence in range(0, 14, 2):
        send(log, sequence, 2)
    for sequence in range(4, 14, 2):
        again = send(log, sequence, 2)
        assert again.duplicate
        assert (again.base_offset, again.last_offset) == (sequence, sequence + 1)
    assert log.log_end_offset == 14


def test_what_was_appended_longer_ago_is_a_duplicate_whose_offset_is_forgotten() -> None:
    log = new_log(disk())
    for sequence in range(0, 14, 2):
        send(log, sequence, 2)
    assert refused(log, 2, 2) is ErrorCode.DUPLICATE_SEQUENCE_NUMBER
    assert refused(log, 0) is ErrorCode.DUPLICATE_SEQUENCE_NUMBER
    assert refused(log, 11, 2) is ErrorCode.DUPLICATE_SEQUENCE_NUMBER


def test_what_was_in_flight_at_a_restart_is_not_appended_again() -> None:
    on = disk()
    log = new_log(on)
    for sequence in range(5):
        send(log, sequence)
    log.close(NOW_MS, clean=True)
    log = reopened(on, clean=True)  # its snapshot knows the last batch only
    assert refused(log, 0) is ErrorCode.DUPLICATE_SEQUENCE_NUMBER
    assert refused(log, 3) is ErrorCode.DUPLICATE_SEQUENCE_NUMBER
    assert send(log, 4).duplicate
    assert send(log, 5).base_offset == 5


def test_an_old_sequence_is_told_from_a_gap_over_the_wrap() -> None:
    log = new_log(disk())
    for sequence in range(2**31 - 12, 2**31 + 2, 2):
        send(log, sequence % 2**31, 2)
    assert refused(log, 2**31 - 9) is ErrorCode.DUPLICATE_SEQUENCE_NUMBER
    assert refused(log, 3) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_what_lies_before_the_first_batch_of_an_unknown_producer_is_no_duplicate() -> None:
    log = new_log(disk())
    send(log, 2, 2)  # those before it were refused, or are on their way
    send(log, 4)
    assert refused(log, 0, 2) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert send(log, 2, 2).duplicate
    assert send(log, 5).base_offset == 3


@pytest.mark.parametrize("gathered", [False, True])
def test_the_batches_behind_a_first_one_that_found_no_room_wait_for_it(gathered: bool) -> None:
    on = disk()
    log = new_log(on)
    on.fail("pwrite", error=ENOSPC)
    with pytest.raises(KafkaError):  # noqa: PT012 - whichever of the two writes
        log.append_as_leader(idempotent(9, 0), 0, NOW_MS, gathered=gathered)
        log.write_gathered(NOW_MS)
    on.heal()
    assert refused(log, 1) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.producers.remove_expired(NOW_MS + 1000, 2000) == 0
    assert [send(log, 0).duplicate, send(log, 1).duplicate] == [False, False]
    assert offsets(log) == [0, 1]
    log.close(NOW_MS)
    assert offsets(reopened(on, clean=True)) == [0, 1]


def test_gap_and_overlap_are_out_of_order() -> None:
    log = new_log(disk())
    send(log, 0, 2)
    assert refused(log, 3) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refused(log, 1, 2) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refused(log, 0, 3) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_older_epoch_is_fenced_and_newer_one_starts_at_zero() -> None:
    log = new_log(disk())
    send(log, 0, epoch=3)
    assert refused(log, 1, epoch=2) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert refused(log, 1, epoch=4) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert send(log, 0, epoch=4).base_offset == 1
    assert refused(log, 1, epoch=3) is ErrorCode.INVALID_PRODUCER_EPOCH


def test_sequence_of_an_older_epoch_is_no_duplicate() -> None:
    log = new_log(disk())
    send(log, 0, epoch=0)
    assert not send(log, 0, epoch=1).duplicate


def test_unknown_producer_may_start_anywhere() -> None:
    assert send(new_log(disk()), 77).base_offset == 0


def test_sequence_wraps_to_zero() -> None:
    log = new_log(disk())
    send(log, 2**31 - 2, 2)
    assert send(log, 0, 2).base_offset == 2
    across = new_log(disk())
    send(across, 2**31 - 1, 3)
    assert send(across, 2**31 - 1, 3).duplicate
    assert send(across, 2).base_offset == 3


def test_coordinators_batches_are_checked_for_the_epoch_only() -> None:
    log = new_log(disk())
    log.append_as_leader(idempotent(9, 5, 1, epoch=2), 0, NOW_MS, from_client=False)
    log.append_as_leader(idempotent(9, 50, 1, epoch=2), 0, NOW_MS, from_client=False)
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(idempotent(9, 51, 1, epoch=1), 0, NOW_MS, from_client=False)
    assert caught.value.code is ErrorCode.INVALID_PRODUCER_EPOCH


@pytest.mark.parametrize("clean", [True, False])
def test_last_batch_of_a_producer_survives_a_restart(clean: bool) -> None:
    on = disk()
    log = new_log(on)
    for sequence in range(3):
        send(log, sequence)
    log.close(NOW_MS, clean=clean)
    log = reopened(on, clean=clean)
    assert send(log, 2).duplicate
    assert refused(log, 4) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert send(log, 3).base_offset == 3


def test_corrupt_snapshot_is_replaced_by_the_batches() -> None:
    on = disk()
    log = new_log(on, segment_bytes=500)
    for sequence in range(20):
        send(log, sequence)
    log.close(NOW_MS)
    snapshots = [path for path in on.tree() if path.endswith(".snapshot")]
    assert len(snapshots) > 2
    for path in snapshots[-2:]:
        file = on.file(path)
        file.write_at(b"\xff", 7)
        file.close()
    log = reopened(on, clean=True)
    assert send(log, 19).duplicate
    assert offsets(log) == list(range(20))


def test_truncation_forgets_what_is_cut_off() -> None:
    log = new_log(disk())
    for sequence in range(5):
        send(log, sequence)
    log.truncate_to(3, NOW_MS)
    assert refused(log, 4) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert send(log, 3).base_offset == 3


def test_silent_producers_expire_unless_a_transaction_is_open() -> None:
    state = ProducerState()
    header = header_of(idempotent(1, 0))
    state.update(header, 0, NOW_MS)
    state.update(header._replace(producer_id=2, attributes=0x10), 1, NOW_MS)
    state.update(header._replace(producer_id=3), 2, NOW_MS + 10)
    assert state.remove_expired(NOW_MS + 1000, 1000) == 1
    assert sorted(state.producers) == [2, 3]
    assert state.first_undecided_offset == 1


def marker(
    producer_id: int, epoch: int, coordinator_epoch: int, kind: int
) -> tuple[BatchHeader, bytes]:
    key = b"\x00\x00" + kind.to_bytes(2, "big")
    value = b"\x00\x00" + coordinator_epoch.to_bytes(4, "big")
    from ottla.records.builder import build_batch

    content = build_batch(
        [(NOW_MS, key, value, [])],
        producer_id=producer_id,
        producer_epoch=epoch,
        transactional=True,
    )
    header = header_of(content)
    return header._replace(attributes=header.attributes | 0x20), bytes(content)


@pytest.mark.parametrize("kind", [0, 1])
def test_transaction_marker_ends_the_transaction(kind: int) -> None:
    state = ProducerState()
    state.update(header_of(idempotent(1, 0))._replace(attributes=0x10), 5, NOW_MS)
    assert state.first_undecided_offset == 5
    header, content = marker(1, 0, 44, kind)
    state.replay(header, lambda: content)
    assert state.first_undecided_offset is None
    assert state.producers[1].coordinator_epoch == 44


SNAPSHOT = bytes.fromhex(
    "0001"  # version
    "bc0f679b"  # CRC32C from here on
    "00000002"  # two producers
    "0000000000000001 0003 00000009 0000000000000064 00000004 0000018bcfe56800 ffffffff ffffffffffffffff"
    "0000000000000002 0000 ffffffff ffffffffffffffff 00000000 0000018bcfe56801 00000007 000000000000000c".replace(
        " ", ""
    )
)


def test_snapshot_is_kafkas_to_the_byte() -> None:
    producers = {
        2: ProducerEntry(
            2, 0, coordinator_epoch=7, last_timestamp_ms=NOW_MS + 1, transaction_first_offset=12
        ),
        1: ProducerEntry(
            1, 3, last_timestamp_ms=NOW_MS, batches=[AppendedBatch(9, 100, 4, NOW_MS)]
        ),
    }
    assert encode_snapshot(producers) == SNAPSHOT
    decoded = decode_snapshot(SNAPSHOT)
    assert encode_snapshot(decoded) == SNAPSHOT
    assert decoded[1].batches == [AppendedBatch(9, 100, 4, NOW_MS)]
    assert decoded[2].transaction_first_offset == 12


@pytest.mark.parametrize("cut", range(len(SNAPSHOT)))
def test_cut_snapshot_is_corrupt(cut: int) -> None:
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(SNAPSHOT[:cut])


@pytest.mark.parametrize("at", range(len(SNAPSHOT)))
def test_changed_snapshot_is_corrupt(at: int) -> None:
    changed = bytearray(SNAPSHOT)
    changed[at] ^= 0x10
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(bytes(changed))
