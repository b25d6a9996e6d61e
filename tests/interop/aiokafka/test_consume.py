"""What aiokafka's consumer may expect of the broker."""

from __future__ import annotations

import pytest

from tests.interop.aiokafka.adapter import (
    aiokafka,
    asynchronous,
    consumer,
    create_topic,
    producer,
    send,
    take,
)
from tests.interop.samples import BASE_MS, Sample

pytestmark = pytest.mark.interop

TopicPartition = aiokafka.TopicPartition
NUMBERED = [Sample(None, b"%d" % n, (), BASE_MS + n * 1_000) for n in range(20)]


async def write_numbered(bootstrap: str, topic: str) -> None:
    """20 records, a second apart, in several batches."""
    await create_topic(bootstrap, topic)
    async with producer(bootstrap, max_batch_size=300) as writer:
        await send(writer, topic, NUMBERED)


@asynchronous
async def test_reading_starts_wherever_it_is_told_to(bootstrap: str, unused: str) -> None:
    await write_numbered(bootstrap, unused)
    partition = TopicPartition(unused, 0)
    async with consumer(bootstrap) as reader:
        reader.assign([partition])
        assert (await take(reader, 1))[0].offset == 0
        reader.seek(partition, 13)
        assert [record.offset for record in await take(reader, 7)] == list(range(13, 20))
        await reader.seek_to_beginning(partition)
        assert [int(record.value) for record in await take(reader, 20)] == list(range(20))
        await reader.seek_to_end(partition)
        async with producer(bootstrap) as writer:
            await send(writer, unused, [Sample(None, b"20")])
        assert [record.value for record in await take(reader, 1)] == [b"20"]
        assert reader.highwater(partition) == 21


@asynchronous
async def test_offsets_are_found_by_time_and_by_end(bootstrap: str, unused: str) -> None:
    await write_numbered(bootstrap, unused)
    partition = TopicPartition(unused, 0)
    async with consumer(bootstrap) as reader:
        assert await reader.beginning_offsets([partition]) == {partition: 0}
        assert await reader.end_offsets([partition]) == {partition: 20}
        for timestamp_ms, offset in [(BASE_MS, 0), (BASE_MS + 6_500, 7), (BASE_MS + 19_000, 19)]:
            found = await reader.offsets_for_times({partition: timestamp_ms})
            assert found[partition].offset == offset
            assert found[partition].timestamp == BASE_MS + offset * 1_000
        assert await reader.offsets_for_times({partition: BASE_MS + 20_000}) == {partition: None}


@asynchronous
async def test_an_offset_that_is_not_there_is_an_error_where_the_consumer_wants_one(
    bootstrap: str, unused: str
) -> None:
    await write_numbered(bootstrap, unused)
    partition = TopicPartition(unused, 0)
    async with consumer(bootstrap, auto_offset_reset="none") as reader:
        reader.assign([partition])
        reader.seek(partition, 1_000)
        with pytest.raises(aiokafka.errors.OffsetOutOfRangeError):
            await take(reader, 1)


@asynchronous
async def test_records_of_many_partitions_come_in_batches_in_each_ones_order(
    bootstrap: str, unused: str
) -> None:
    await create_topic(bootstrap, unused, 5)
    async with producer(bootstrap) as writer:
        for partition in range(5):
            await send(writer, unused, NUMBERED, partition)
    got: dict[int, list[int]] = {partition: [] for partition in range(5)}
    async with consumer(bootstrap, unused, isolation_level="read_committed") as reader:
        while sum(map(len, got.values())) < 100:
            for partition, records in (await reader.getmany(timeout_ms=1_000)).items():
                got[partition.partition] += [record.offset for record in records]
    assert got == {partition: list(range(20)) for partition in range(5)}


@asynchronous
async def test_a_topic_that_is_asked_for_is_created(bootstrap: str, unused: str) -> None:
    async with consumer(bootstrap, unused) as reader, producer(bootstrap) as writer:
        await writer.send_and_wait(unused, b"first")
        assert [record.value for record in await take(reader, 1)] == [b"first"]
