"""Produce: what is appended, what is refused, and when the answer comes."""

from __future__ import annotations

import logging
import struct
import threading
from typing import Any

import pytest

from ottla.broker.handlers.produce import _Produce
from ottla.errors import ErrorCode
from ottla.log.validation import RECORD_ERRORS_MAX
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.records.batch import CompressionType, TimestampType, read_header
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.replication.partition import Partition
from ottla.replication.recompression import UNPACKED_AT_ONCE, UNPACKED_BYTES_MAX, Recompression
from ottla.testing import Broker
from tests.support.requests import (
    create_topic,
    fetch,
    fetch_request,
    list_offset,
    produce,
    produce_request,
)
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch

NOW_MS = 1_700_000_000_000


def test_offsets_are_dense_and_in_the_order_of_the_requests(wire: Wire) -> None:
    create_topic(wire, "t")
    sent = [wire.send(produce_request("t", batch(b"a", b"b", b"c")), 9) for _ in range(20)]
    answers = [wire.receive(produce_request("t", None), 9, number) for number in sent]
    offsets = [answer.responses[0].partition_responses[0].base_offset for answer in answers]
    assert offsets == list(range(0, 60, 3))


@pytest.mark.parametrize("durability", ["disk", "os"])
@pytest.mark.parametrize("acks", [-1, 1])
def test_what_is_acknowledged_can_be_read(durability: str, acks: int) -> None:
    with Broker({"durability": durability}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert produce(wire, "t", batch(b"a"), acks=acks).error_code == 0
        assert b"a" in bytes(fetch(wire, "t", max_wait_ms=5000).records)


def test_acks_0_is_not_answered_and_a_failure_hangs_up(ottla_broker: Broker, wire: Wire) -> None:
    create_topic(wire, "t")
    wire.send(produce_request("t", batch(b"a"), acks=0), 9)
    assert produce(wire, "t", batch(b"b")).base_offset == 1
    wire.send(produce_request("none", batch(b"a"), acks=0), 9)
    assert wire.is_hung_up()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("crc", ErrorCode.CORRUPT_MESSAGE),
        ("magic", ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        ("truncated", ErrorCode.CORRUPT_MESSAGE),
        ("two batches", ErrorCode.INVALID_RECORD),
        ("count", ErrorCode.INVALID_RECORD),
        ("control", ErrorCode.INVALID_RECORD),
        ("codec", ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
        ("empty", ErrorCode.INVALID_RECORD),
        ("none", ErrorCode.INVALID_RECORD),
        ("garbage", ErrorCode.CORRUPT_MESSAGE),
    ],
)
def test_a_bad_batch_is_refused_and_nothing_is_written(
    wire: Wire, change: str, code: ErrorCode
) -> None:
    create_topic(wire, "t")
    answer = produce(wire, "t", spoilt(change))
    assert answer.error_code == code, answer.error_message
    assert answer.base_offset == -1
    assert produce(wire, "t", batch(b"good")).base_offset == 0


def spoilt(change: str) -> bytes | None:
    good = bytearray(batch(b"one", b"two"))
    if change == "crc":
        good[-1] ^= 1
    elif change == "magic":
        good[16] = 1
    elif change == "truncated":
        del good[-3:]
    elif change == "two batches":
        good += batch(b"three")
    elif change == "count":
        struct.pack_into(">i", good, 57, 3)
        from ottla.records.batch import pack_header

        pack_header(good, read_header(good)._replace(record_count=3))
    elif change == "control":
        return batch(b"one", control=True)
    elif change == "codec":
        from ottla.records.batch import pack_header

        pack_header(good, read_header(good)._replace(attributes=7))
    elif change == "empty":
        return b""
    elif change == "none":
        return None
    elif change == "garbage":
        return bytes(range(100))
    return bytes(good)


def test_one_bad_partition_does_not_hold_up_the_others(wire: Wire) -> None:
    create_topic(wire, "t", partitions=2)
    request = produce_request("t", batch(b"a"))
    request.topic_data += produce_request("t", batch(b"b"), partition=1).topic_data
    request.topic_data += produce_request("t", batch(b"c"), partition=9).topic_data
    request.topic_data += produce_request("none", batch(b"c")).topic_data
    answer = wire.ask(request, 9)
    codes = [response.partition_responses[0].error_code for response in answer.responses]
    assert codes == [0, 0, 3, 3]


def test_too_large_a_batch_is_refused_as_too_large(wire: Wire) -> None:
    create_topic(wire, "t", max_message_bytes=200)
    assert produce(wire, "t", batch(bytes(300))).error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert produce(wire, "t", batch(bytes(100))).error_code == 0


def test_unknown_acks_are_refused(wire: Wire) -> None:
    create_topic(wire, "t")
    assert produce(wire, "t", batch(b"a"), acks=2).error_code == ErrorCode.INVALID_REQUIRED_ACKS
    assert produce(wire, "t", batch(b"a"), acks=1).base_offset == 0


def new_producer(wire: Wire) -> int:
    answer = wire.ask(InitProducerIdRequest(transactional_id=None), 4)
    assert answer.error_code == 0
    producer_id: int = answer.producer_id
    return producer_id


def test_a_retried_batch_gets_its_first_offset_and_is_not_written_again(wire: Wire) -> None:
    create_topic(wire, "t")
    producer = {"producer_id": new_producer(wire), "producer_epoch": 0}
    for sequence in range(5):
        answer = produce(wire, "t", batch(b"x", base_sequence=sequence, **producer))
        assert answer.base_offset == sequence
    for sequence in range(5):
        answer = produce(wire, "t", batch(b"x", base_sequence=sequence, **producer))
        assert (answer.error_code, answer.base_offset) == (0, sequence)
    assert list_offset(wire, "t", -1).offset == 5


def test_a_gap_in_the_sequence_and_an_old_epoch_are_refused(wire: Wire) -> None:
    create_topic(wire, "t")
    producer_id = new_producer(wire)
    first = {"producer_id": producer_id, "producer_epoch": 1}
    assert produce(wire, "t", batch(b"x", base_sequence=0, **first)).error_code == 0
    gap = produce(wire, "t", batch(b"x", base_sequence=2, **first))
    assert gap.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    old = produce(
        wire, "t", batch(b"x", base_sequence=1, producer_id=producer_id, producer_epoch=0)
    )
    assert old.error_code == ErrorCode.INVALID_PRODUCER_EPOCH
    assert list_offset(wire, "t", -1).offset == 1


def test_what_a_producer_is_refused_with_is_logged_for_who_looks_for_the_cause(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """With what the leader knew of the producer; those that came alone, and those behind another in one read."""
    create_topic(wire, "t")
    producer_id = new_producer(wire)
    first = {"producer_id": producer_id, "producer_epoch": 1}
    assert produce(wire, "t", batch(b"x", b"y", base_sequence=0, **first)).error_code == 0
    with caplog.at_level(logging.DEBUG):
        produce(wire, "t", batch(b"x", base_sequence=7, **first))
        requests = [
            produce_request("t", batch(b"x", base_sequence=sequence, **first))
            for sequence in (2, 9, 3)
        ]
        for number in [wire.send(request, 9) for request in requests]:
            wire.receive(requests[0], 9, number)
        produce(wire, "t", batch(b"plain"))
    logged = [vars(record)["fields"] for record in caplog.records if "batch" in record.msg]
    assert [
        (one["refused_with"], one["first_sequence"], one["appended_at"], one["known_sequences"])
        for one in logged
    ] == [
        ("OUT_OF_ORDER_SEQUENCE_NUMBER", 7, -1, "0-1"),
        ("OUT_OF_ORDER_SEQUENCE_NUMBER", 9, -1, logged[1]["known_sequences"]),
    ]
    assert logged[1]["known_sequences"] in ("0-1, 2-2", "0-1, 2-2, 3-3")
    assert {(one["partition"], one["producer_id"], one["producer_epoch"]) for one in logged} == {
        ("t-0", producer_id, 1)
    }


def test_producer_state_survives_a_restart(ottla_broker: Broker) -> None:
    with Wire(ottla_broker.bootstrap) as wire:
        create_topic(wire, "t")
        producer = {"producer_id": new_producer(wire), "producer_epoch": 0}
        assert produce(wire, "t", batch(b"x", base_sequence=0, **producer)).base_offset == 0
    ottla_broker.restart()
    with Wire(ottla_broker.bootstrap) as wire:
        assert new_producer(wire) > producer["producer_id"]
        assert produce(wire, "t", batch(b"x", base_sequence=0, **producer)).base_offset == 0
        assert produce(wire, "t", batch(b"y", base_sequence=1, **producer)).base_offset == 1


def test_transactions_are_refused_for_good_and_write_nothing(wire: Wire) -> None:
    create_topic(wire, "t")
    refused = wire.ask(InitProducerIdRequest(transactional_id="mine"), 4)
    assert refused.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert not ErrorCode(refused.error_code).retriable
    producer = {"producer_id": new_producer(wire), "producer_epoch": 0, "base_sequence": 0}
    request = produce_request("t", batch(b"x", transactional=True, **producer))
    alone = wire.ask(request, 9).responses[0].partition_responses[0]
    request.transactional_id = "mine"
    named = wire.ask(request, 9).responses[0].partition_responses[0]
    for answer in (alone, named):
        assert answer.error_code
        assert not ErrorCode(answer.error_code).retriable
    assert list_offset(wire, "t", -1).offset == 0


def test_log_append_time_is_the_brokers(wire: Wire) -> None:
    create_topic(wire, "t", message_timestamp_type="LogAppendTime")
    answer = produce(wire, "t", batch(b"a"))
    assert answer.log_append_time_ms > 1_750_000_000_000
    records = bytes(fetch(wire, "t").records)
    header = read_header(records)
    assert header.timestamp_type is TimestampType.LOG_APPEND_TIME
    assert decode_batch(records)[0].timestamp_ms == answer.log_append_time_ms


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd", "uncompressed"])
def test_a_topics_own_compression_rewrites_batches_in_order(wire: Wire, compression: str) -> None:
    create_topic(wire, "t", compression_type=compression)
    other = CompressionType.LZ4 if compression != "lz4" else CompressionType.GZIP
    sent = [
        wire.send(
            produce_request(
                "t", batch(b"%d" % i * 50, compression=other if i % 2 else CompressionType.NONE)
            ),
            9,
        )
        for i in range(10)
    ]
    answers = [wire.receive(produce_request("t", None), 9, number) for number in sent]
    offsets = [answer.responses[0].partition_responses[0].base_offset for answer in answers]
    assert offsets == list(range(10))
    records = bytes(fetch(wire, "t").records)
    position = 0
    for i in range(10):
        header = read_header(records, position)
        wanted = "NONE" if compression == "uncompressed" else compression.upper()
        assert header.compression is CompressionType[wanted]
        (record,) = decode_batch(records[position : position + header.size_bytes])
        assert (record.offset, record.value) == (i, b"%d" % i * 50)
        position += header.size_bytes


def test_a_compacted_topic_wants_keys(wire: Wire) -> None:
    create_topic(wire, "t", cleanup_policy="compact")
    assert produce(wire, "t", batch(b"a")).error_code == ErrorCode.INVALID_RECORD
    assert produce(wire, "t", batch(b"a", key=b"k")).error_code == 0
    compressed = batch(b"a", compression=CompressionType.ZSTD)
    assert produce(wire, "t", compressed).error_code == ErrorCode.INVALID_RECORD


def test_a_setting_changes_what_a_running_topic_takes(wire: Wire) -> None:
    from ottla.messages.incremental_alter_configs import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
    )

    create_topic(wire, "t")
    assert produce(wire, "t", batch(bytes(300))).error_code == 0
    config = AlterableConfig(name="max.message.bytes", config_operation=0, value="200")
    resource = AlterConfigsResource(resource_type=2, resource_name="t", configs=[config])
    answer = wire.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)
    assert answer.responses[0].error_code == 0
    assert produce(wire, "t", batch(bytes(300))).error_code == ErrorCode.MESSAGE_TOO_LARGE


def test_zstd_is_for_clients_that_can_read_it(wire: Wire) -> None:
    create_topic(wire, "t")
    create_topic(wire, "z", compression_type="zstd")
    request = produce_request("t", batch(b"a", compression=CompressionType.ZSTD))
    old = wire.ask(request, 6).responses[0].partition_responses[0]
    assert old.error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert wire.ask(request, 7).responses[0].partition_responses[0].error_code == 0
    fetched = wire.ask(fetch_request("z", 0), 9).responses[0].partitions[0]
    assert fetched.error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert wire.ask(fetch_request("z", 0), 10).responses[0].partitions[0].error_code == 0


def held_rewrites(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Rewrites of batches wait until the event is set."""
    go_on, rewrite = threading.Event(), Recompression._rewrite

    def held(records: memoryview, codec: CompressionType) -> memoryview:
        assert go_on.wait(20)
        return rewrite(records, codec)

    monkeypatch.setattr(Recompression, "_rewrite", staticmethod(held))
    return go_on


@pytest.mark.parametrize("acks", [0, 1, -1])
def test_a_batch_that_waits_to_be_rewritten_counts_against_the_memory_for_requests(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch, acks: int
) -> None:
    create_topic(wire, "t", compression_type="gzip")
    assert ottla_broker.server is not None
    server = ottla_broker.server._server
    assert server is not None
    go_on = held_rewrites(monkeypatch)
    request = produce_request("t", batch(bytes(10_000)), acks=acks, timeout_ms=0)
    numbers = [wire.send(request, 9) for _ in range(150)]
    wait_until(lambda: server.budget.used_bytes >= 100 * 10_000)
    partition = ottla_broker.server.replicas.leader_of("t", 0)
    assert len(partition._recompression._queue) <= server.limits.requests_in_flight_max
    go_on.set()
    wait_until(lambda: partition.log.log_end_offset == 150)
    for number in numbers if acks else ():
        wire.receive(request, 9, number)
    wait_until(lambda: not server.budget.used_bytes)


def test_acks_0_hangs_up_too_where_a_rewrite_fails(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    create_topic(wire, "t", compression_type="gzip")
    records = bytearray(batch(b"a" * 50))
    records[-1] ^= 1
    wire.send(produce_request("t", bytes(records), acks=0), 9)
    assert wire.is_hung_up()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_few_batches_are_rewritten_at_once_whatever_arrives(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t", partitions=8, compression_type="zstd")
    rewrite, lock = Recompression._rewrite, threading.Lock()
    running = most = 0

    def counted(*arguments: Any) -> memoryview:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return rewrite(*arguments)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(Recompression, "_rewrite", staticmethod(counted))
    sent = [
        wire.send(produce_request("t", batch(b"x" * 100_000), partition=index % 8), 9)
        for index in range(40)
    ]
    for number in sent:
        answer = wire.receive(produce_request("t", None), 9, number)
        assert answer.responses[0].partition_responses[0].error_code == 0
    assert 1 <= most <= UNPACKED_AT_ONCE


def test_what_a_batch_may_unpack_to_is_counted_while_it_is_unpacked(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t", compression_type="gzip")
    assert ottla_broker.server is not None
    server = ottla_broker.server._server
    assert server is not None
    go_on = held_rewrites(monkeypatch)
    request = produce_request("t", batch(bytes(100_000)))
    number = wire.send(request, 9)
    wait_until(lambda: server.budget.used_bytes >= UNPACKED_BYTES_MAX + 100_000)
    go_on.set()
    answer = wire.receive(request, 9, number).responses[0].partition_responses[0]
    assert answer.error_code == 0
    wait_until(lambda: not server.budget.used_bytes)


def test_a_batch_that_was_rewritten_before_another_leader_is_not_said_to_be_committed(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That leader may have cut it off, and others may have its offsets."""
    create_topic(wire, "t", compression_type="gzip")
    rewritten = _Produce._rewritten

    def late(self: Any, partition: Partition, answer: Any, done: Any) -> None:
        epoch = partition.leader_epoch
        partition.follow(9, epoch + 1, 1, [partition.node_id], [partition.node_id])
        partition.become_leader(epoch + 2, 2, [partition.node_id], [partition.node_id])
        rewritten(self, partition, answer, done)

    monkeypatch.setattr(_Produce, "_rewritten", late)
    answer = wire.ask(produce_request("t", batch(b"1"), acks=-1), 9)
    code = answer.responses[0].partition_responses[0].error_code
    assert code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_keys_are_looked_at_in_order_with_what_follows(wire: Wire) -> None:
    create_topic(wire, "t", cleanup_policy="compact")
    many = build_batch(
        [(NOW_MS, b"k%d" % n, b"v", []) for n in range(5000)], compression=CompressionType.LZ4
    )
    keyless = build_batch([(NOW_MS, None, b"v", [])] * 3000)
    few = batch(b"v", key=b"k")
    request = produce_request("t", None)
    sent = [
        wire.send(produce_request("t", bytes(records)), 9)
        for records in (many, few, keyless, few, many)
    ]
    answers = [
        wire.receive(request, 9, number).responses[0].partition_responses[0] for number in sent
    ]
    assert [answer.base_offset for answer in answers] == [0, 5000, -1, 5001, 5002]
    assert answers[2].error_code == ErrorCode.INVALID_RECORD
    assert len(answers[2].record_errors) == RECORD_ERRORS_MAX
