"""What librdkafka's producer may expect of the broker."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.records.batch import CompressionType
from tests.interop.confluent_kafka.adapter import (
    CODECS,
    confluent_kafka,
    create_topic,
    producer,
    read,
    send,
    write,
)
from tests.interop.raw import RawClient
from tests.interop.samples import SAMPLES, Sample
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.interop

KafkaError = confluent_kafka.KafkaError


def test_records_come_back_as_they_were_written(bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    deliveries = send(producer(bootstrap), unused, SAMPLES)
    assert not deliveries.errors
    assert deliveries.offsets == list(range(len(SAMPLES)))
    assert read(bootstrap, unused, 0, len(SAMPLES)) == list(SAMPLES)


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_is_kept_in_the_log_and_read_back(
    codec: str, bootstrap: str, unused: str, raw: RawClient
) -> None:
    samples = [Sample(b"k%d" % n, b"value " * 50) for n in range(50)]
    create_topic(bootstrap, unused)
    write(bootstrap, unused, 0, codec, samples)
    kinds = {batch.compression for batch in raw.batches(unused)}
    assert kinds == {CompressionType[codec.upper()]}
    read_back = [sample[:2] for sample in read(bootstrap, unused, 0, len(samples))]
    assert read_back == [sample[:2] for sample in samples]


@pytest.mark.parametrize(("acks", "offset"), [("0", None), ("1", 0), ("all", 0)])
def test_with_any_acks_a_record_arrives_and_its_offset_is_told_if_asked(
    acks: str, offset: int | None, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    deliveries = send(producer(bootstrap, acks=acks), unused, SAMPLES[:1])
    assert not deliveries.errors
    assert deliveries.offsets == [offset]
    assert read(bootstrap, unused, 0, 1) == [SAMPLES[0]]


def test_a_record_up_to_the_topics_limit_passes_and_a_larger_one_is_refused(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    create_topic(bootstrap, unused, config={"max.message.bytes": "3000000"})
    writer = producer(bootstrap, message_max_bytes=10_000_000)
    fits = send(writer, unused, [Sample(None, b"x" * 2_999_000)])
    assert not fits.errors
    refused = send(writer, unused, [Sample(None, b"x" * 3_000_001)])
    assert [error.code() for error in refused.errors] == [KafkaError.MSG_SIZE_TOO_LARGE]
    assert not refused.errors[0].retriable()
    assert raw.offset(unused) == 1
    (sample,) = read(bootstrap, unused, 0, 1)
    assert sample.value == b"x" * 2_999_000


def test_an_idempotent_producer_numbers_its_batches_without_a_gap(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    create_topic(bootstrap, unused)
    settings: dict[str, object] = {"enable.idempotence": True, "batch.num.messages": 20}
    writer = producer(bootstrap, **settings)
    values = [b"%d" % n for n in range(500)]
    deliveries = send(writer, unused, [Sample(None, value) for value in values])
    assert not deliveries.errors
    batches = raw.batches(unused)
    assert len(batches) >= 25
    assert {batch.producer_epoch for batch in batches} == {0}
    (producer_id,) = {batch.producer_id for batch in batches}
    assert producer_id >= 0
    assert [batch.base_sequence for batch in batches] == [batch.base_offset for batch in batches]
    assert [record.value for record in raw.records(unused)] == values


def test_each_idempotent_producer_has_an_id_of_its_own(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    create_topic(bootstrap, unused)
    settings: dict[str, object] = {"enable.idempotence": True}
    for _ in range(3):
        assert not send(producer(bootstrap, **settings), unused, SAMPLES[:1]).errors
    assert len({batch.producer_id for batch in raw.batches(unused)}) == 3


def test_a_topic_is_created_by_the_first_record_for_it(bootstrap: str, unused: str) -> None:
    deliveries = send(producer(bootstrap), unused, SAMPLES[:1], partition=0)
    assert not deliveries.errors
    assert deliveries.offsets == [0]


def test_the_brokers_time_replaces_the_producers_where_the_topic_says_so(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    create_topic(bootstrap, unused, config={"message.timestamp.type": "LogAppendTime"})
    assert not send(producer(bootstrap), unused, SAMPLES).errors
    (timestamp_ms,) = {batch.max_timestamp_ms for batch in raw.batches(unused)}
    read_back = read(bootstrap, unused, 0, len(SAMPLES))
    assert {sample.timestamp_ms for sample in read_back} == {timestamp_ms}
    assert timestamp_ms > max(sample.timestamp_ms for sample in SAMPLES)
    assert [s[:3] for s in read_back] == [s[:3] for s in SAMPLES]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd", "uncompressed"])
def test_a_topics_own_codec_replaces_the_producers(
    codec: str, bootstrap: str, unused: str, raw: RawClient
) -> None:
    create_topic(bootstrap, unused, config={"compression.type": codec})
    sent = "gzip" if codec != "gzip" else "zstd"
    write(bootstrap, unused, 0, sent, SAMPLES)
    kind = CompressionType.NONE if codec == "uncompressed" else CompressionType[codec.upper()]
    assert {batch.compression for batch in raw.batches(unused)} == {kind}
    assert read(bootstrap, unused, 0, len(SAMPLES)) == list(SAMPLES)


def test_a_transactional_producer_is_refused_for_good(
    bootstrap: str, unused: str, only_ottla: None
) -> None:
    settings: dict[str, object] = {"transactional.id": unused}
    writer = producer(bootstrap, **settings)
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        writer.init_transactions(DEADLINE_S)
    error: Any = refused.value.args[0]
    assert error.code() == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert error.fatal()
    assert not error.retriable()


def test_the_newest_versions_that_librdkafka_speaks_are_used(bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    log = ProtocolLog()
    settings: dict[str, object] = {"debug": "protocol"}
    writer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, **settings}, logger=log)
    assert not send(writer, unused, SAMPLES[:1]).errors
    writer.poll(0)
    newest = {"Produce": 10, "Metadata": 13, "ApiVersion": 3}
    assert {name: log.version_of(name) for name in newest} == newest


class ProtocolLog:
    """librdkafka's log of the requests it sends."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, form: str, *parts: object) -> None:
        """``logging.Logger.log`` as confluent-kafka calls it."""
        self.lines.append(form % parts)

    def version_of(self, request: str) -> int:
        """The version in ``Sent ProduceRequest (v10, 128 bytes @ 0, CorrId 3)``."""
        for line in self.lines:
            _, found, rest = line.partition(f"Sent {request}Request (v")
            if found:
                return int(rest.partition(",")[0])
        raise AssertionError(f"no {request} request was sent")
