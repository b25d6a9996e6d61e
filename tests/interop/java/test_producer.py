"""The Java producer: every level of acks, every codec, idempotence, partitions, and errors it understands."""

from __future__ import annotations

import re

import pytest

from tests.interop.java import adapter
from tests.interop.raw import RawClient
from tests.interop.samples import BASE_MS, SAMPLES, Sample

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("java")]

VALUE = Sample(b"key", b"value", (), BASE_MS)


@pytest.mark.parametrize("codec", adapter.CODECS)
def test_records_come_back_as_they_were_under_every_codec(
    codec: str, bootstrap: str, unused: str, raw: RawClient
) -> None:
    raw.create_topic(unused)
    adapter.write(bootstrap, unused, 0, codec, SAMPLES)
    assert [sample[:3] for sample in adapter.read(bootstrap, unused, 0, len(SAMPLES))] == [
        sample[:3] for sample in SAMPLES
    ]
    assert codec.upper() in {batch.compression.name for batch in raw.batches(unused)}


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_records_are_acknowledged_at_every_level(acks: str, bootstrap: str, unused: str) -> None:
    idempotent = "true" if acks == "all" else "false"
    records = [adapter.record(unused, VALUE, 0)] * 3
    sent = adapter.send(bootstrap, records, acks=acks, enable_idempotence=idempotent)
    assert [offset for _, offset, _ in sent] == ([-1] * 3 if acks == "0" else [0, 1, 2])
    assert len(adapter.read(bootstrap, unused, 0, 3)) == 3


def test_a_producer_is_idempotent_unless_told_otherwise(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    adapter.send(bootstrap, [adapter.record(unused, VALUE, 0)] * 50, batch_size=200)
    batches = raw.batches(unused)
    assert len(batches) > 1
    assert {batch.producer_id >= 0 for batch in batches} == {True}
    sequences = [batch.base_sequence for batch in batches]
    assert sequences == sorted(set(sequences))


def test_keys_go_to_the_partitions_that_our_own_producer_gives_them(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    import ottla

    raw.create_topic(unused, 3)
    keys = [b"key %d" % number for number in range(30)]
    records = [adapter.record(unused, Sample(key, b"")) for key in keys]
    theirs = [partition for partition, _, _ in adapter.send(bootstrap, records)]
    with ottla.Producer(bootstrap) as producer:
        ours = [producer.send(unused, b"", key=key) for key in keys]
        assert [delivery.result(30).partition for delivery in ours] == theirs
    assert set(theirs) == {0, 1, 2}


def test_the_brokers_time_is_told(bootstrap: str, unused: str, raw: RawClient) -> None:
    raw.create_topic(unused, config={"message.timestamp.type": "LogAppendTime"})
    ((_, _, timestamp),) = adapter.send(bootstrap, [adapter.record(unused, VALUE, 0)])
    assert timestamp > BASE_MS
    with adapter.consumer(bootstrap) as reader:
        reader("assign", partitions=[[unused, 0]])
        (found,) = adapter.take(reader, 1)
    assert (found["timestamp"], found["timestamp_type"]) == (timestamp, "LOG_APPEND_TIME")


def test_errors_have_their_java_names(bootstrap: str, unused: str, raw: RawClient) -> None:
    raw.create_topic(unused, config={"max.message.bytes": "1000", "cleanup.policy": "compact"})

    def error_of(sample: Sample, topic: str = unused, **settings: object) -> str:
        (outcome,) = adapter.send(bootstrap, [adapter.record(topic, sample, 0)], **settings)
        return str(outcome["error"])

    assert error_of(Sample(b"k", b"x" * 2_000)) == "RecordTooLargeException"
    assert error_of(Sample(None, b"x")) == "InvalidRecordException"
    assert error_of(VALUE, "no spaces", max_block_ms=5_000) == "InvalidTopicException"


def test_which_records_of_a_batch_lack_a_key_is_told(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    raw.create_topic(unused, config={"cleanup.policy": "compact"})
    samples = (Sample(b"k", b"1"), Sample(None, b"2"), Sample(b"k", b"3"))
    records = [adapter.record(unused, sample, 0) for sample in samples]
    outcomes = adapter.send(bootstrap, records, linger_ms=2_000)
    assert [outcome["error"] for outcome in outcomes] == [
        "KafkaException",
        "InvalidRecordException",
        "KafkaException",
    ]
    told = [bool(re.search("without (a )?key", outcome["message"])) for outcome in outcomes]
    assert told == [False, True, False]
    assert raw.offset(unused) == 0


def test_transactions_are_refused_at_once(bootstrap: str, unused: str, only_ottla: None) -> None:
    with pytest.raises(adapter.JavaError) as caught:
        adapter.send(bootstrap, [adapter.record(unused, VALUE)], transactional_id=unused)
    assert caught.value.name == "TransactionalIdAuthorizationException"
