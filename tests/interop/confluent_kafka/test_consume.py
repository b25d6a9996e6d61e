"""What librdkafka's consumer may expect of the broker when it reads without a group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.confluent_kafka.adapter import (
    admin_client,
    confluent_kafka,
    consumer,
    create_topic,
    producer,
    read,
    send,
    take,
    write,
)
from tests.interop.samples import BASE_MS, Sample
from tests.support.waiting import DEADLINE_S, eventually

pytestmark = pytest.mark.interop

TopicPartition = confluent_kafka.TopicPartition
KafkaError = confluent_kafka.KafkaError

NUMBERED = [Sample(None, b"%d" % n, (), BASE_MS + n * 1_000) for n in range(20)]


@pytest.fixture
def numbered(bootstrap: str, unused: str) -> str:
    """A topic with 20 records, a second apart, five in a batch."""
    create_topic(bootstrap, unused)
    for start in range(0, 20, 5):
        write(bootstrap, unused, 0, "none", NUMBERED[start : start + 5])
    return unused


@pytest.fixture
def reader(bootstrap: str) -> Iterator[Any]:
    """A consumer without an assignment."""
    consuming = consumer(bootstrap)
    yield consuming
    consuming.close()


def values(messages: list[Any]) -> list[int]:
    """What the records say."""
    return [int(message.value()) for message in messages]


def test_reading_starts_wherever_it_is_told_to(numbered: str, reader: Any) -> None:
    for offset, expected in [(0, 0), (7, 7), (confluent_kafka.OFFSET_BEGINNING, 0), (19, 19)]:
        reader.assign([TopicPartition(numbered, 0, offset)])
        messages = take(reader, 1)
        assert values(messages) == [expected]
        assert messages[0].offset() == expected
        reader.unassign()


def test_reading_from_the_end_sees_only_what_comes_later(numbered: str, bootstrap: str) -> None:
    settings: dict[str, Any] = {"enable.partition.eof": True}
    reader = consumer(bootstrap, **settings)
    try:
        reader.assign([TopicPartition(numbered, 0, confluent_kafka.OFFSET_END)])
        end = eventually(lambda: reader.poll(0.2), "the end of the partition")
        assert end.error().code() == KafkaError._PARTITION_EOF
        assert end.offset() == 20
        write(bootstrap, numbered, 0, "none", [Sample(None, b"20")])
        assert values(take(reader, 1)) == [20]
    finally:
        reader.close()


def test_an_offset_is_found_by_its_time(numbered: str, reader: Any) -> None:
    wanted = [
        (BASE_MS, 0),
        (BASE_MS + 6_500, 7),
        (BASE_MS + 7_000, 7),
        (BASE_MS + 19_000, 19),
        (BASE_MS + 19_001, -1),
    ]
    for timestamp_ms, offset in wanted:
        (found,) = reader.offsets_for_times(
            [TopicPartition(numbered, 0, timestamp_ms)], timeout=DEADLINE_S
        )
        assert found.error is None
        assert found.offset == (confluent_kafka.OFFSET_END if offset < 0 else offset)


def test_the_first_and_the_last_offset_are_told(numbered: str, reader: Any) -> None:
    assert reader.get_watermark_offsets(TopicPartition(numbered, 0), DEADLINE_S) == (0, 20)


def test_seeking_goes_back_and_forth(numbered: str, reader: Any) -> None:
    reader.assign([TopicPartition(numbered, 0, 0)])
    assert values(take(reader, 3)) == [0, 1, 2]
    reader.seek(TopicPartition(numbered, 0, 15))
    assert values(take(reader, 5)) == [15, 16, 17, 18, 19]
    reader.seek(TopicPartition(numbered, 0, 4))
    assert values(take(reader, 2)) == [4, 5]


@pytest.mark.parametrize(("reset", "value"), [("earliest", 0), ("latest", 20)])
def test_an_offset_that_is_not_there_is_reset_as_the_consumer_chose(
    reset: str, value: int, numbered: str, bootstrap: str
) -> None:
    settings: dict[str, Any] = {"auto.offset.reset": reset}
    reader = consumer(bootstrap, **settings)
    try:
        reader.assign([TopicPartition(numbered, 0, 1_000)])

        def read() -> list[Any]:
            if reset == "latest":
                write(bootstrap, numbered, 0, "none", [Sample(None, b"20")])
            return list(reader.consume(1, timeout=0.5))

        assert values(eventually(read, "a record after the reset")) == [value]
    finally:
        reader.close()


def test_an_offset_that_is_not_there_is_an_error_where_the_consumer_wants_one(
    numbered: str, bootstrap: str
) -> None:
    settings: dict[str, Any] = {"auto.offset.reset": "error"}
    reader = consumer(bootstrap, **settings)
    try:
        reader.assign([TopicPartition(numbered, 0, 1_000)])
        message = eventually(lambda: reader.poll(0.2), "an error")
        assert message.error().code() == KafkaError._AUTO_OFFSET_RESET
        assert "out of range" in message.error().str().lower()
    finally:
        reader.close()


def test_a_paused_partition_is_silent_until_it_is_resumed(
    bootstrap: str, unused: str, reader: Any
) -> None:
    create_topic(bootstrap, unused, partitions=2)
    both = [TopicPartition(unused, 0, 0), TopicPartition(unused, 1, 0)]
    reader.assign(both)
    reader.pause(both[:1])
    write(bootstrap, unused, 0, "none", NUMBERED[:3])
    write(bootstrap, unused, 1, "none", NUMBERED[3:6])
    assert values(take(reader, 3)) == [3, 4, 5]
    reader.resume(both[:1])
    assert values(take(reader, 3)) == [0, 1, 2]


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_both_isolation_levels_read_what_no_transaction_wrote(
    isolation: str, numbered: str, bootstrap: str
) -> None:
    settings: dict[str, Any] = {"isolation.level": isolation, "enable.partition.eof": True}
    reader = consumer(bootstrap, **settings)
    try:
        reader.assign([TopicPartition(numbered, 0, 0)])
        assert values(take(reader, 20)) == list(range(20))
        message = eventually(lambda: reader.poll(0.2), "the end of the partition")
        assert message.error().code() == KafkaError._PARTITION_EOF
    finally:
        reader.close()


def test_a_record_larger_than_what_a_fetch_asks_for_is_read_all_the_same(
    bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused, config={"max.message.bytes": "3000000"})
    large = [Sample(None, bytes([65 + n]) * 2_000_000) for n in range(3)]
    assert not send(producer(bootstrap, message_max_bytes=3_000_000), unused, large).errors
    settings: dict[str, Any] = {
        "fetch.max.bytes": 10_000,
        "message.max.bytes": 10_000,
        "max.partition.fetch.bytes": 1_000,
    }
    reader = consumer(bootstrap, **settings)
    try:
        reader.assign([TopicPartition(unused, 0, 0)])
        assert [m.value() for m in take(reader, 3)] == [sample.value for sample in large]
    finally:
        reader.close()


def test_a_topic_that_is_made_again_is_read_from_its_own_beginning(
    bootstrap: str, numbered: str
) -> None:
    client = admin_client(bootstrap)
    client.delete_topics([numbered])[numbered].result(DEADLINE_S)

    def made_again() -> bool:
        try:
            create_topic(bootstrap, numbered)
        except confluent_kafka.KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            return False
        return True

    eventually(made_again, "the topic can be created again")
    write(bootstrap, numbered, 0, "none", [Sample(b"new", b"life", (), BASE_MS)])
    assert read(bootstrap, numbered, 0, 1) == [Sample(b"new", b"life", (), BASE_MS)]
