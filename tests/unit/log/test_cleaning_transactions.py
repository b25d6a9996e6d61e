"""Transactions that Apache Kafka wrote, in a log that is compacted here."""

from __future__ import annotations

from struct import pack

from ottla.log.compaction.transactions import (
    AbortedTransaction,
    CleanedTransactions,
    decode_aborted,
    encode_aborted,
)
from ottla.log.log import Log
from ottla.records.batch import read_header, stamp
from ottla.records.builder import build_batch
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.compacting import clean
from tests.unit.log.samples import DIRECTORY, NOW_MS, all_records, disk, new_log

ABORT, COMMIT = 0, 1


class Transactions:
    """A compacted log as a follower of Kafka's gets it."""

    def __init__(self) -> None:
        self.disk: SimulatedDisk = disk()
        self.log: Log = new_log(self.disk, cleanup_policy="compact", delete_retention_ms=1000)
        self.aborted: list[AbortedTransaction] = []

    def take(self, content: bytearray) -> int:
        offset = self.log.log_end_offset
        stamp(content, offset, 0)
        self.log.append_as_follower(content, NOW_MS)
        return offset

    def put(self, producer_id: int, sequence: int, key: bytes, value: bytes) -> int:
        return self.take(
            build_batch(
                [(NOW_MS, key, value, ())],
                producer_id=producer_id,
                producer_epoch=0,
                base_sequence=sequence,
                transactional=True,
            )
        )

    def end(self, producer_id: int, kind: int, first_offset: int) -> None:
        marker = build_batch(
            [(NOW_MS, pack(">hh", 0, kind), pack(">hi", 0, 0), ())],
            producer_id=producer_id,
            producer_epoch=0,
            transactional=True,
            control=True,
        )
        offset = self.take(marker)
        if kind == ABORT:
            self.aborted.append(AbortedTransaction(first_offset, offset, producer_id, offset + 1))
            base = self.log.segments.active.base_offset
            path = f"{DIRECTORY}/{base:020d}.txnindex"
            self.disk.write_file(path, encode_aborted(self.aborted))

    def plain(self, key: bytes, value: bytes) -> None:
        self.take(build_batch([(NOW_MS, key, value, ())]))

    def left(self) -> list[tuple[int, bytes | None]]:
        return [
            (record.offset, record.value)
            for record in all_records(self.log)
            if record.key and len(record.key) == 1
        ]

    def markers(self) -> list[int]:
        return [
            header.base_offset
            for segment in self.log.segments
            for _, header in segment.headers()
            if header.is_control and header.record_count
        ]


def test_aborted_records_go_and_are_no_keys_newest() -> None:
    log = Transactions()
    log.plain(b"a", b"1")
    first = log.put(7, 0, b"a", b"aborted")
    log.end(7, ABORT, first)
    first = log.put(8, 0, b"b", b"committed")
    log.end(8, COMMIT, first)
    log.log.roll(NOW_MS)
    log.plain(b"z", b"1")
    clean(log.disk, log.log)
    assert log.left() == [(0, b"1"), (3, b"committed"), (5, b"1")]
    assert log.markers() == [2, 4]
    content = log.disk.read_file(f"{DIRECTORY}/{0:020d}.txnindex")
    assert decode_aborted(content) == log.aborted


def test_markers_go_when_their_records_are_gone_and_delete_retention_is_over() -> None:
    log = Transactions()
    first = log.put(7, 0, b"a", b"aborted")
    log.end(7, ABORT, first)
    first = log.put(8, 0, b"b", b"old")
    log.end(8, COMMIT, first)
    log.plain(b"b", b"new")
    log.log.roll(NOW_MS)
    log.log.producers.producers.clear()  # long expired
    for now_ms, markers in ((0, [1, 3]), (10, [1, 3]), (500, [1, 3]), (1010, []), (1020, [])):
        log.plain(b"z", b"%d" % now_ms)
        log.log.roll(NOW_MS)
        clean(log.disk, log.log, NOW_MS + now_ms)
        assert log.markers() == markers, f"after {now_ms} ms"
        assert (4, b"new") in log.left()


def test_last_marker_of_an_active_producer_stays_for_its_epoch() -> None:
    log = Transactions()
    first = log.put(8, 0, b"b", b"old")
    log.end(8, COMMIT, first)
    log.plain(b"b", b"new")
    log.log.roll(NOW_MS)
    for now_ms in (0, 10, 2000):
        log.plain(b"z", b"1")
        log.log.roll(NOW_MS)
        clean(log.disk, log.log, NOW_MS + now_ms)
    (kept, *_) = [
        header
        for segment in log.log.segments
        for _, header in segment.headers()
        if header.producer_id == 8
    ]
    assert (kept.base_offset, kept.record_count, kept.last_sequence) == (0, 0, 0)


def test_marker_of_an_unknown_kind_stays() -> None:
    transactions = CleanedTransactions([])
    header = read_header(build_batch([(NOW_MS, b"", b"", ())], control=True, transactional=True))
    assert not transactions.may_discard(header, pack(">hh", 0, 5))
    assert not transactions.may_discard(header, b"x")
    assert transactions.may_discard(header, None)


def test_index_of_aborted_transactions_is_read_as_far_as_it_is_whole() -> None:
    entries = [AbortedTransaction(1, 5, 7, 3), AbortedTransaction(9, 12, 8, 9)]
    assert decode_aborted(encode_aborted(entries)) == entries
    assert decode_aborted(encode_aborted(entries)[:-1]) == entries[:1]
