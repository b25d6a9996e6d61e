"""What kafka-python's producer may expect of the broker."""

from __future__ import annotations

import pytest

from ottla.records.batch import CompressionType
from tests.interop.kafka_python.adapter import (
    CODECS,
    MARKS,
    WRITABLE,
    create_topic,
    errors,
    kafka,
    producer,
    read,
    send,
    write,
)
from tests.interop.raw import RawClient
from tests.interop.samples import Sample
from tests.support.waiting import DEADLINE_S

pytestmark = MARKS


@pytest.mark.parametrize("codec", CODECS)
def test_records_come_back_as_they_were_written(
    codec: str, bootstrap: str, unused: str, raw: RawClient
) -> None:
    write(bootstrap, unused, 0, codec, WRITABLE)
    assert read(bootstrap, unused, 0, len(WRITABLE)) == list(WRITABLE)
    kinds = {batch.compression for batch in raw.batches(unused)}
    assert CompressionType[codec.upper()] in kinds
    assert kinds <= {CompressionType[codec.upper()], CompressionType.NONE}


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_with_any_acks_a_record_arrives(acks: int | str, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    with producer(bootstrap, acks=acks, enable_idempotence=False) as writer:
        send(writer, unused, WRITABLE[:1])
    assert read(bootstrap, unused, 0, 1) == [WRITABLE[0]]


def test_a_record_above_the_topics_limit_is_refused(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    create_topic(bootstrap, unused, config={"max.message.bytes": "100000"})
    with producer(bootstrap) as writer:
        send(writer, unused, [Sample(None, b"x" * 99_000)])
        with pytest.raises(errors.MessageSizeTooLargeError):
            send(writer, unused, [Sample(None, b"x" * 100_001)])
    assert raw.offset(unused) == 1


def test_an_idempotent_producer_numbers_its_batches_without_a_gap(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    create_topic(bootstrap, unused)
    samples = [Sample(None, b"%d" % n) for n in range(500)]
    with producer(bootstrap, batch_size=500) as writer:
        offsets = [metadata.offset for metadata in send(writer, unused, samples)]
    assert offsets == list(range(500))
    batches = raw.batches(unused)
    assert len(batches) >= 10
    (producer_id,) = {batch.producer_id for batch in batches}
    assert producer_id >= 0
    assert [batch.base_sequence for batch in batches] == [batch.base_offset for batch in batches]


def test_keys_choose_the_partition_as_everywhere_else(bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused, 3)
    keys = [b"JFK", b"LGA", b"EWR", b"key %d" % 7]
    with producer(bootstrap) as writer:
        chosen = [writer.send(unused, b"value", key).get(DEADLINE_S).partition for key in keys]
        again = [writer.send(unused, b"value", key).get(DEADLINE_S).partition for key in keys]
    assert chosen == again
    assert len(set(chosen)) > 1


def test_a_transactional_producer_is_refused_for_good(
    bootstrap: str, unused: str, only_ottla: None
) -> None:
    writer = kafka.KafkaProducer(bootstrap_servers=bootstrap, transactional_id=unused)
    try:
        with pytest.raises(errors.TransactionalIdAuthorizationFailedError) as refused:
            writer.init_transactions()
        assert not refused.value.retriable
    finally:
        writer.close()
