"""Producing with ottla.Producer and ottla.aio.Producer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

import ottla
from ottla import aio
from ottla.client.errors import RecordTooLarge
from ottla.client.murmur2 import partition_for_key
from tests.support.waiting import DEADLINE_S, eventually

pytestmark = pytest.mark.interop


def read_all(bootstrap: str, topic: str, count: int) -> list[ottla.Record]:
    """The first ``count`` records of a topic."""
    records: list[ottla.Record] = []
    deadline = time.monotonic() + 30
    with ottla.Consumer(topic, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        while len(records) < count and time.monotonic() < deadline:
            records += consumer.poll(1.0)
    assert len(records) == count
    return records


@pytest.fixture
def three_partitions(bootstrap: str, unused: str) -> str:
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(unused, partitions=3, replication_factor=1)
    return unused


def test_a_record_is_acknowledged_with_its_place(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap) as producer:
        first = producer.send(unused, b"value", key="key", timestamp_ms=1_700_000_000_123).result(
            30
        )
        second = producer.send(unused, "text", headers={"a": b"1", "b": None}).result(30)
    assert first == ottla.RecordMetadata(unused, 0, 0, 1_700_000_000_123)
    assert second.offset == 1
    one, two = read_all(bootstrap, unused, 2)
    assert (one.key, one.value, one.timestamp_ms, one.headers) == (
        b"key",
        b"value",
        1_700_000_000_123,
        (),
    )
    assert (two.key, two.value, two.headers) == (None, b"text", (("a", b"1"), ("b", None)))


def test_leaving_the_block_delivers_everything(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap, linger_ms=60_000) as producer:
        for number in range(1000):
            producer.send(unused, b"%d" % number)
    assert [r.value for r in read_all(bootstrap, unused, 1000)] == [b"%d" % n for n in range(1000)]


def test_flush_does_not_wait_for_the_linger(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap, linger_ms=60_000) as producer:
        delivery = producer.send(unused, b"x")
        assert not delivery.done()
        producer.flush(30)
        assert delivery.done()
        assert delivery.result(0).offset == 0


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_comes_back_as_it_was(bootstrap: str, unused: str, compression: str) -> None:
    values = [b"%d " % number * 50 for number in range(200)]
    with ottla.Producer(bootstrap, compression=compression) as producer:
        for value in values:
            producer.send(unused, value)
    assert [record.value for record in read_all(bootstrap, unused, 200)] == values


@pytest.mark.parametrize("acks", ["all", 1, 0])
def test_every_level_of_acknowledgement_delivers(bootstrap: str, unused: str, acks: Any) -> None:
    with ottla.Producer(bootstrap, acks=acks, idempotent=False) as producer:
        deliveries = [producer.send(unused, b"%d" % number) for number in range(100)]
        producer.flush(30)
        assert {delivery.result(0).offset for delivery in deliveries} == (
            {-1} if acks == 0 else set(range(100))
        )
    assert [r.value for r in read_all(bootstrap, unused, 100)] == [b"%d" % n for n in range(100)]


def test_keys_go_to_javas_partitions(bootstrap: str, three_partitions: str) -> None:
    keys = [f"station-{number}" for number in range(50)]
    with ottla.Producer(bootstrap) as producer:
        deliveries = [producer.send(three_partitions, b"", key=key) for key in keys]
        producer.flush(30)
        for key, delivery in zip(keys, deliveries, strict=True):
            assert delivery.result(0).partition == partition_for_key(key.encode(), 3)


def test_records_without_a_key_reach_every_partition(bootstrap: str, three_partitions: str) -> None:
    with ottla.Producer(bootstrap, batch_size=1000) as producer:
        deliveries = [producer.send(three_partitions, b"x" * 900) for _ in range(600)]
        producer.flush(30)
        partitions = [delivery.result(0).partition for delivery in deliveries]
    assert set(partitions) == {0, 1, 2}


def test_a_partition_and_a_partitioner_of_ones_own_are_followed(
    bootstrap: str, three_partitions: str
) -> None:
    with ottla.Producer(bootstrap, partitioner=lambda topic, key, count: count - 1) as producer:
        assert producer.send(three_partitions, b"").result(30).partition == 2
        assert producer.send(three_partitions, b"", partition=1).result(30).partition == 1
        assert producer.partitions_for(three_partitions) == 3


def test_a_partition_that_does_not_exist_is_an_error_after_max_block_ms(
    bootstrap: str, three_partitions: str
) -> None:
    with (
        ottla.Producer(bootstrap, max_block_ms=200) as producer,
        pytest.raises(ottla.RequestTimeout, match="partition 7"),
    ):
        producer.send(three_partitions, b"", partition=7)


def test_callbacks_hear_of_every_record(bootstrap: str, unused: str) -> None:
    heard: list[ottla.RecordMetadata | None] = []
    with ottla.Producer(bootstrap) as producer:
        for number in range(300):
            producer.send(
                unused, b"%d" % number, on_delivery=lambda metadata, error: heard.append(metadata)
            )
    assert [metadata.offset for metadata in heard if metadata] == list(range(300))


def test_a_batch_that_the_broker_finds_too_large_is_split(bootstrap: str, unused: str) -> None:
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(unused, 1, 1, {"max.message.bytes": "5000"})
    with ottla.Producer(bootstrap, batch_size=100_000, linger_ms=1000) as producer:
        deliveries = [producer.send(unused, b"%05d" % number * 100) for number in range(60)]
        too_large = producer.send(unused, b"x" * 10_000)
        after = producer.send(unused, b"after")
        producer.flush(30)
        assert [delivery.result(0).offset for delivery in deliveries] == list(range(60))
        error = too_large.exception(0)
        assert error is not None
        assert error.code is ottla.ErrorCode.MESSAGE_TOO_LARGE
        assert after.result(0).offset == 60
    values = [record.value for record in read_all(bootstrap, unused, 61)]
    assert values == [b"%05d" % number * 100 for number in range(60)] + [b"after"]


def test_a_record_larger_than_a_request_is_refused_at_once(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap) as producer, pytest.raises(RecordTooLarge):
        producer.send(unused, b"x" * 2_000_000)


def test_an_impossible_topic_name_is_refused(bootstrap: str) -> None:
    with ottla.Producer(bootstrap) as producer, pytest.raises(ottla.KafkaError) as caught:
        producer.send("no spaces", b"")
    assert caught.value.code is ottla.ErrorCode.INVALID_TOPIC_EXCEPTION


def test_a_full_buffer_makes_the_sender_wait(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap, buffer_memory=20_000, batch_size=4_000) as producer:
        for number in range(2_000):
            producer.send(unused, b"%04d" % number * 25)
            assert producer._core.accumulator.buffered_bytes <= 20_000
    assert len(read_all(bootstrap, unused, 2_000)) == 2_000


def test_serializers_turn_values_into_bytes_and_back(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap, value_serializer="json", key_serializer="str") as producer:
        producer.send(unused, {"temperature": 21.5}, key="JFK")
        producer.send(unused, None, key="LGA")
    with ottla.Consumer(
        unused,
        bootstrap=bootstrap,
        auto_offset_reset="earliest",
        value_deserializer="json",
        key_deserializer="str",
    ) as consumer:
        records = iter(consumer)
        one, two = next(records), next(records)
    assert (one.key, one.value) == ("JFK", {"temperature": 21.5})
    assert (two.key, two.value) == ("LGA", None)


def test_what_is_no_record_is_refused_where_it_is_sent(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap) as producer:
        with pytest.raises(TypeError):
            producer.send(unused, 12)
        with pytest.raises(TypeError):
            producer.send(unused, b"", headers={1: b""})  # type: ignore[dict-item]
        with pytest.raises(ValueError, match="timestamp"):
            producer.send(unused, b"", timestamp_ms=-5)
        assert producer.send(unused, b"fine").result(30).offset == 0


def test_threads_share_a_producer(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap) as producer:

        def work(name: int) -> None:
            for number in range(500):
                producer.send(unused, b"%d:%d" % (name, number))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    values = [record.value for record in read_all(bootstrap, unused, 2_000)]
    for name in range(4):
        mine = [value for value in values if value.startswith(b"%d:" % name)]
        assert mine == [b"%d:%d" % (name, number) for number in range(500)]


def test_a_closed_producer_takes_nothing(bootstrap: str, unused: str) -> None:
    producer = ottla.Producer(bootstrap)
    producer.close()
    producer.close()
    with pytest.raises(RuntimeError, match="closed"):
        producer.send(unused, b"")


def run_script(script: str, *arguments: str) -> str:
    """What a Python program prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_the_end_of_the_program_sends_what_lingers(bootstrap: str, unused: str) -> None:
    script = """
        import sys
        import ottla
        producer = ottla.Producer(sys.argv[1], linger_ms=60_000)
        producer.send(sys.argv[2], b"last words")
    """
    run_script(script, bootstrap, unused)
    with ottla.Consumer(unused, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        assert [record.value for record in consumer.poll(30)] == [b"last words"]


def test_a_forked_process_is_told_that_the_client_is_its_parents(
    bootstrap: str, unused: str
) -> None:
    script = """
        import os, sys
        import ottla
        with ottla.Producer(sys.argv[1]) as producer, ottla.Consumer(bootstrap=sys.argv[1]) as consumer:
            producer.send(sys.argv[2], b"parent").result()
            if os.fork() == 0:
                for use in (
                    lambda: producer.send(sys.argv[2], b"child"),
                    lambda: producer.flush(),
                    lambda: consumer.poll(),
                ):
                    try:
                        use()
                    except RuntimeError:
                        print("refused", flush=True)
            else:
                os.wait()
    """
    assert run_script(script, bootstrap, unused) == "refused\n" * 3


def test_closing_ends_the_wait_of_another_thread_for_an_unknown_topic() -> None:
    producer = ottla.Producer("127.0.0.1:1")
    raised: list[BaseException] = []

    def send() -> None:
        try:
            producer.send("t", b"")
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    eventually(lambda: producer._core.cluster._waiters, "a wait for the topic")
    producer.close()
    thread.join(DEADLINE_S)
    assert len(raised) == 1


def test_a_host_that_is_no_name_is_an_error_that_names_it() -> None:
    with (
        ottla.Producer("no..name:9092", max_block_ms=300) as producer,
        pytest.raises(ottla.NoBrokerAvailable, match=r"no\.\.name:9092"),
    ):
        producer.send("t", b"")


def test_nobody_listening_is_an_error_within_max_block_ms() -> None:
    with (
        ottla.Producer("127.0.0.1:1", max_block_ms=300) as producer,
        pytest.raises(ottla.NoBrokerAvailable),
    ):
        producer.send("t", b"")


def test_asyncio_producer_delivers_and_tells_where(bootstrap: str, unused: str) -> None:
    async def work() -> None:
        async with aio.Producer(bootstrap) as producer:
            delivery = await producer.send(unused, b"one")
            assert (await delivery).offset == 0
            assert (await delivery).offset == 0
            assert (await producer.send_and_wait(unused, b"two")).offset == 1
            deliveries = [await producer.send(unused, b"%d" % number) for number in range(1000)]
            metadata = await asyncio.gather(*deliveries)
            assert [m.offset for m in metadata] == list(range(2, 1002))
            await producer.flush(30)

    asyncio.run(work())


def test_asyncio_producer_waits_for_room_without_blocking_the_loop(
    bootstrap: str, unused: str
) -> None:
    async def work() -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        async with aio.Producer(bootstrap, buffer_memory=20_000) as producer:
            for _ in range(1_000):
                await producer.send(unused, b"x" * 100)
        task.cancel()
        assert turns > 10

    asyncio.run(work())
    assert len(read_all(bootstrap, unused, 1_000)) == 1_000
