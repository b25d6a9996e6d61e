"""What aiokafka's producer may expect of the broker."""

from __future__ import annotations

import pytest

from ottla.records.batch import CompressionType
from tests.interop.aiokafka.adapter import (
    CODECS,
    WRITABLE,
    aiokafka,
    asynchronous,
    create_topic,
    producer,
    read,
    send,
    write,
)
from tests.interop.raw import RawClient
from tests.interop.samples import SAMPLES, Sample

pytestmark = pytest.mark.interop

errors = aiokafka.errors


@pytest.mark.parametrize("codec", CODECS)
def test_records_come_back_as_they_were_written(
    codec: str, bootstrap: str, unused: str, raw: RawClient
) -> None:
    write(bootstrap, unused, 0, codec, WRITABLE)
    assert read(bootstrap, unused, 0, len(WRITABLE)) == list(WRITABLE)
    kinds = {batch.compression for batch in raw.batches(unused)}
    assert kinds == {CompressionType[codec.upper()]}


@pytest.mark.parametrize("acks", [0, 1, "all"])
@asynchronous
async def test_with_any_acks_a_record_arrives(
    acks: int | str, bootstrap: str, unused: str, raw: RawClient
) -> None:
    await create_topic(bootstrap, unused)
    async with producer(bootstrap, acks=acks) as writer:
        await writer.send_and_wait(unused, b"value", b"key")
    async with aiokafka.AIOKafkaConsumer(
        unused, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    ) as reader:
        assert (await reader.getone()).value == b"value"
    assert raw.offset(unused) == 1


@asynchronous
async def test_a_record_above_the_topics_limit_is_refused(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    await create_topic(bootstrap, unused, config={"max.message.bytes": "100000"})
    async with producer(bootstrap) as writer:
        await writer.send_and_wait(unused, b"x" * 99_000)
        with pytest.raises(errors.MessageSizeTooLargeError):
            await writer.send_and_wait(unused, b"x" * 100_001)
    assert raw.offset(unused) == 1


@asynchronous
async def test_an_idempotent_producer_numbers_its_batches_without_a_gap(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    await create_topic(bootstrap, unused)
    samples = [Sample(None, b"%d" % n) for n in range(500)]
    async with producer(bootstrap, enable_idempotence=True, max_batch_size=500) as writer:
        assert await send(writer, unused, samples) == list(range(500))
    batches = raw.batches(unused)
    assert len(batches) >= 10
    (producer_id,) = {batch.producer_id for batch in batches}
    assert producer_id >= 0
    assert [batch.base_sequence for batch in batches] == [batch.base_offset for batch in batches]


@asynchronous
async def test_the_producers_metadata_tells_the_brokers_time_where_the_topic_wants_it(
    bootstrap: str, unused: str
) -> None:
    await create_topic(bootstrap, unused, config={"message.timestamp.type": "LogAppendTime"})
    async with producer(bootstrap) as writer:
        metadata = await writer.send_and_wait(unused, b"value", timestamp_ms=1_000)
    assert metadata.timestamp_type == 1
    assert metadata.timestamp > SAMPLES[0].timestamp_ms


@asynchronous
async def test_a_transactional_producer_is_refused_for_good(
    bootstrap: str, unused: str, only_ottla: None
) -> None:
    writer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=unused)
    try:
        with pytest.raises(errors.TransactionalIdAuthorizationFailed) as refused:
            await writer.start()
        assert not refused.value.retriable
    finally:
        await writer.stop()
