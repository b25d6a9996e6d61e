"""Consuming with ottla.Consumer and ottla.aio.Consumer, without a group."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ottla
from ottla import aio
from ottla.client.consumer import sync
from ottla.client.consumer.consumer import hand_out
from ottla.client.consumer.fetched import Chunk, DeserializationFailed
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

START_MS = 1_700_000_000_000


def fill(bootstrap: str, topic: str, count: int, partitions: int = 1) -> None:
    """``count`` numbered records, a second apart, round the partitions."""
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(topic, partitions, 1)
    with ottla.Producer(bootstrap) as producer:
        for number in range(count):
            producer.send(
                topic,
                b"%d" % number,
                partition=number % partitions,
                timestamp_ms=START_MS + 1000 * number,
            )


def take(consumer: ottla.Consumer, count: int) -> list[ottla.Record]:
    """Exactly so many records."""
    records: list[ottla.Record] = []

    def enough() -> bool:
        records.extend(consumer.poll(0.2, count - len(records)))
        return len(records) >= count

    eventually(enough, f"{count} records")
    assert len(records) == count
    return records


def numbers(records: list[ottla.Record]) -> list[int]:
    return [int(record.value) for record in records]


@pytest.fixture
def consumer(bootstrap: str, unused: str) -> Iterator[ottla.Consumer]:
    fill(bootstrap, unused, 100)
    with ottla.Consumer(unused, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        yield consumer


def test_poll_gives_what_is_there_and_nothing_at_the_end(consumer: ottla.Consumer) -> None:
    assert numbers(take(consumer, 100)) == list(range(100))
    assert consumer.poll(0.01) == []
    assert consumer.poll() == []


def test_poll_gives_at_most_what_is_asked_for(consumer: ottla.Consumer) -> None:
    seen: list[int] = []
    while len(seen) < 100:
        records = consumer.poll(5.0, 7)
        assert 0 < len(records) <= 7
        seen += numbers(records)
    assert seen == list(range(100))


def test_iteration_stops_and_goes_on_at_the_next_record(
    consumer: ottla.Consumer, unused: str
) -> None:
    seen = []
    for record in consumer:
        seen.append(record)
        if len(seen) == 10:
            break
    assert consumer.position((unused, 0)) == 10
    for record in consumer:
        seen.append(record)
        if len(seen) == 20:
            break
    seen += take(consumer, 80)
    assert numbers(seen) == list(range(100))


def test_records_of_all_partitions_come_in_their_order(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 300, partitions=3)
    with ottla.Consumer(unused, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        records = take(consumer, 300)
        assert consumer.assignment() == {ottla.TopicPartition(unused, p) for p in range(3)}
    for partition in range(3):
        mine = [record for record in records if record.partition == partition]
        assert [record.offset for record in mine] == list(range(100))


def test_seek_goes_back_and_forth(consumer: ottla.Consumer, unused: str) -> None:
    take(consumer, 50)
    consumer.seek((unused, 0), 10)
    assert consumer.position((unused, 0)) == 10
    assert numbers(take(consumer, 5)) == [10, 11, 12, 13, 14]
    consumer.seek((unused, 0), 97)
    assert numbers(take(consumer, 3)) == [97, 98, 99]
    consumer.seek_to_beginning()
    assert numbers(take(consumer, 2)) == [0, 1]


def test_seek_in_an_iteration_drops_the_rest_of_what_was_fetched(
    consumer: ottla.Consumer, unused: str
) -> None:
    seen = []
    for record in consumer:
        seen.append(int(record.value))
        if seen == [0, 1, 2]:
            consumer.seek((unused, 0), 90)
        if seen[-1] == 99:
            break
    assert seen == [0, 1, 2, *range(90, 100)]


def test_seek_to_the_end_waits_for_new_records(
    bootstrap: str, consumer: ottla.Consumer, unused: str
) -> None:
    consumer.seek_to_end((unused, 0))
    assert consumer.position((unused, 0)) == 100
    with ottla.Producer(bootstrap) as producer:
        producer.send(unused, b"100")
    assert numbers(take(consumer, 1)) == [100]


def test_seek_to_a_time_finds_the_first_record_from_then_on(
    consumer: ottla.Consumer, unused: str
) -> None:
    consumer.seek_to_time(START_MS + 41_500)
    assert numbers(take(consumer, 2)) == [42, 43]
    consumer.seek_to_time(START_MS + 10_000_000, (unused, 0))
    assert consumer.position((unused, 0)) == 100


def test_latest_reads_only_what_comes_after(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 10)
    with ottla.Consumer(unused, bootstrap=bootstrap) as consumer:
        assert consumer.poll(0.1) == []
        assert eventually(consumer.assignment, "an assignment")
        assert consumer.position((unused, 0)) == 10
        with ottla.Producer(bootstrap) as producer:
            producer.send(unused, b"10")
        assert numbers(take(consumer, 1)) == [10]


def test_no_reset_policy_raises_what_is_missing(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 1)
    with (
        ottla.Consumer(unused, bootstrap=bootstrap, auto_offset_reset="none") as consumer,
        pytest.raises(ottla.NoOffsetForPartition) as caught,
    ):
        consumer.poll(30)
    assert caught.value.partitions == [(unused, 0)]


def test_offset_out_of_range_is_reset_by_the_policy(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 10)
    with ottla.Consumer(bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([(unused, 0)])
        consumer.seek((unused, 0), 5000)
        assert numbers(take(consumer, 3)) == [0, 1, 2]


def test_offset_out_of_range_is_reset_at_once_when_all_else_is_quiet(
    consumer: ottla.Consumer, unused: str
) -> None:
    take(consumer, 100)
    consumer.seek((unused, 0), 5000)
    assert numbers(take(consumer, 3)) == [0, 1, 2]


def test_offset_out_of_range_without_a_policy_is_raised(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 10)
    with ottla.Consumer(bootstrap=bootstrap, auto_offset_reset="none") as consumer:
        consumer.assign([(unused, 0)])
        consumer.seek((unused, 0), 5000)
        with pytest.raises(ottla.NoOffsetForPartition, match="out of range"):
            consumer.poll(30)
        consumer.seek((unused, 0), 8)
        assert numbers(take(consumer, 2)) == [8, 9]


def test_a_paused_partition_gives_nothing_until_it_is_resumed(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 200, partitions=2)
    with ottla.Consumer(unused, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        take(consumer, 10)
        consumer.pause((unused, 0))
        assert consumer.paused() == {(unused, 0)}
        rest = []
        while records := consumer.poll(0.3):
            rest += records
        assert {record.partition for record in rest} == {1}
        consumer.resume((unused, 0))
        assert {record.partition for record in take(consumer, 200 - 10 - len(rest))} == {0}


def test_paused_partitions_do_not_use_up_the_memory_of_the_others(
    bootstrap: str, unused: str
) -> None:
    fill(bootstrap, unused, 20, partitions=2)
    settings: dict[str, Any] = {"auto_offset_reset": "earliest", "fetch_max_bytes": 1}
    with ottla.Consumer(bootstrap=bootstrap, **settings) as consumer:
        consumer.assign([(unused, 0)])
        eventually(lambda: consumer._core.fetcher.completed, "a full buffer")
        consumer.pause((unused, 0))
        consumer.assign([(unused, 0), (unused, 1)])
        assert {record.partition for record in take(consumer, 10)} == {1}


def test_a_pause_in_an_iteration_holds_back_what_was_fetched(
    consumer: ottla.Consumer, unused: str
) -> None:
    seen = []
    for record in consumer:
        seen.append(int(record.value))
        if seen[-1] == 10:
            consumer.pause((unused, 0))
            break
    assert consumer.poll(0.1) == []
    assert consumer.position((unused, 0)) == 11
    consumer.resume()
    assert seen + numbers(take(consumer, 89)) == list(range(100))


def test_offsets_can_be_asked_for(consumer: ottla.Consumer, unused: str) -> None:
    tp = ottla.TopicPartition(unused, 0)
    assert consumer.beginning_offsets(tp) == {tp: 0}
    assert consumer.end_offsets(tp) == {tp: 100}
    assert consumer.partitions_for(unused) == 1
    found = consumer.offsets_for_times({tp: START_MS + 500})[tp]
    assert found is not None
    assert (found.offset, found.timestamp_ms) == (1, START_MS + 1000)
    assert consumer.offsets_for_times({tp: START_MS + 10**9}) == {tp: None}
    take(consumer, 1)
    assert consumer.high_watermark(tp) == 100


def test_a_pattern_reads_the_topics_that_match_and_those_made_later(
    bootstrap: str, unused: str
) -> None:
    fill(bootstrap, f"{unused}.one", 1)
    fill(bootstrap, f"{unused}.other.kind", 1)
    with ottla.Consumer(
        bootstrap=bootstrap, auto_offset_reset="earliest", metadata_max_age_ms=200
    ) as consumer:
        consumer.subscribe(pattern=re.escape(unused) + r"\.[a-z]+")
        assert take(consumer, 1)[0].topic == f"{unused}.one"
        fill(bootstrap, f"{unused}.two", 1)
        assert take(consumer, 1)[0].topic == f"{unused}.two"
        assert consumer.subscription() == {f"{unused}.one", f"{unused}.two"}


def test_what_cannot_be_deserialized_is_raised_and_can_be_skipped(
    bootstrap: str, unused: str
) -> None:
    with ottla.Producer(bootstrap) as producer:
        for value in (b"1", b"2", b"not json", b"4"):
            producer.send(unused, value)
    with ottla.Consumer(
        unused, bootstrap=bootstrap, auto_offset_reset="earliest", value_deserializer="json"
    ) as consumer:
        assert [record.value for record in take(consumer, 2)] == [1, 2]
        for _ in range(2):
            with pytest.raises(DeserializationFailed) as caught:
                consumer.poll(30)
        assert caught.value.offset == 2
        consumer.seek(caught.value.partition, caught.value.offset + 1)
        assert [record.value for record in take(consumer, 1)] == [4]


def test_a_consumer_that_subscribes_to_nothing_or_is_closed_says_so(bootstrap: str) -> None:
    consumer = ottla.Consumer(bootstrap=bootstrap)
    with pytest.raises(RuntimeError, match="subscribe"):
        consumer.poll()
    with pytest.raises(RuntimeError, match="group"):
        consumer.commit()
    consumer.close()
    consumer.close()
    with pytest.raises(RuntimeError, match="closed"):
        consumer.poll()


def test_a_poll_that_waits_gets_what_comes_and_hears_of_the_end(
    bootstrap: str, unused: str
) -> None:
    fill(bootstrap, unused, 1)
    found: list[Any] = []

    def work() -> None:
        try:
            while True:
                found.extend(numbers(consumer.poll(60.0)))
        except RuntimeError as error:
            found.append(str(error))

    with ottla.Consumer(unused, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        eventually(lambda: found == [0], "the record that was there")
        with ottla.Producer(bootstrap) as producer:
            producer.send(unused, b"1")
        eventually(lambda: found == [0, 1], "the record that came")
    thread.join(60)
    assert found == [0, 1, "the consumer is closed"]


@pytest.mark.parametrize("moment", ["before it waits", "while it takes what is there"])
def test_a_poll_under_which_the_consumer_is_closed_says_so_at_any_moment(
    bootstrap: str, unused: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    fill(bootstrap, unused, 1)
    consumer = ottla.Consumer(unused, bootstrap=bootstrap, auto_offset_reset="earliest")
    eventually(lambda: numbers(consumer.poll(0.2)) == [0], "the record")
    eventually(
        lambda: consumer.poll(0.2) == [] and consumer._direct._lent != [],
        "this thread reads its connections",
    )

    def close() -> None:
        closing = threading.Thread(target=consumer.close)
        closing.start()
        closing.join(60)

    def may_wait() -> bool:
        close()
        return False

    def take(_: int) -> tuple[list[Any], bool]:
        close()
        return [], True

    if moment == "before it waits":
        monkeypatch.setattr(consumer, "_may_wait", may_wait)
    else:
        monkeypatch.setattr(consumer._core, "take", take)
    with pytest.raises(RuntimeError, match=r"^the consumer is closed$"):
        consumer.poll(10.0)


def test_a_commit_s_callback_must_not_wait_for_records(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 1)
    said: list[str] = []

    def wait(*_: Any) -> None:
        try:
            consumer.poll(60.0)
        except RuntimeError as error:
            said.append(str(error))

    options: Any = {"bootstrap": bootstrap, "group": unused, "auto_offset_reset": "earliest"}
    with ottla.Consumer(unused, **options) as consumer:
        assert numbers(take(consumer, 1)) == [0]
        consumer.commit_async(on_commit=wait)
        eventually(lambda: said, "that it must not")
    assert "must not wait" in said[0]


def test_large_records_and_small_fetches_get_along(bootstrap: str, unused: str) -> None:
    with ottla.Producer(bootstrap, batch_size=1) as producer:
        for number in range(20):
            producer.send(unused, b"%d" % number * 100_000)
    with ottla.Consumer(
        unused,
        bootstrap=bootstrap,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=1000,
        fetch_max_bytes=5000,
    ) as consumer:
        values = [record.value for record in take(consumer, 20)]
    assert values == [b"%d" % number * 100_000 for number in range(20)]


def test_a_signal_in_a_poll_loses_no_record(bootstrap: str, unused: str) -> None:
    """It comes in the thread that polls, in the middle of whatever is done there."""
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(unused, 2, 1)
    for _ in range(25):  # a batch of 20 each
        with ottla.Producer(bootstrap, linger_ms=1000) as producer:
            for _ in range(20):
                producer.send(unused, b"", partition=0)
    read, main = 0, threading.current_thread()

    def interrupted(value: bytes) -> bytes:
        nonlocal read
        read += 1
        if read >= 150 and threading.current_thread() is main:
            read = -1_000_000
            raise KeyboardInterrupt
        return value

    settings: dict[str, Any] = {"auto_offset_reset": "earliest", "value_deserializer": interrupted}
    with ottla.Consumer(unused, bootstrap=bootstrap, **settings) as consumer:
        seen = [record.offset for record in take(consumer, 100)]
        with pytest.raises(KeyboardInterrupt):
            consumer.poll(5.0, 500)
        assert consumer.position((unused, 0)) == 100
        seen += [record.offset for record in take(consumer, 400)]
        assert consumer.poll(0.1) == []
    assert seen == list(range(500))


def test_a_signal_when_records_are_handed_out_loses_none(
    consumer: ottla.Consumer, unused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(chunks: list[Chunk]) -> list[ottla.Record]:
        if hand_out(chunks):
            raise KeyboardInterrupt
        return []

    seen = numbers(take(consumer, 10))
    with monkeypatch.context() as patch:
        patch.setattr(sync, "hand_out", interrupted)
        with pytest.raises(KeyboardInterrupt):
            consumer.poll(5.0, 20)
    assert consumer.position((unused, 0)) == 10
    for record in consumer:
        seen.append(int(record.value))
        if len(seen) == 20:
            break
    assert seen + numbers(take(consumer, 80)) == list(range(100))


def test_asyncio_consumer_iterates_and_polls(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 100)

    async def work() -> list[int]:
        seen = []
        async with aio.Consumer(
            unused, bootstrap=bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            async for record in consumer:
                seen.append(int(record.value))
                if len(seen) == 30:
                    break
            while len(seen) < 60:
                seen += numbers(await consumer.poll(5.0, 60 - len(seen)))
            async for record in consumer:
                seen.append(int(record.value))
                if len(seen) == 100:
                    break
            await consumer.seek((unused, 0), 50)
            assert await consumer.position((unused, 0)) == 50
            assert numbers(await consumer.poll(5.0, 1)) == [50]
        return seen

    assert asyncio.run(work()) == list(range(100))


def test_an_asyncio_consumer_that_has_records_lets_the_loop_turn(
    bootstrap: str, unused: str
) -> None:
    """Else the next Fetch would not leave, and no other task would run, before all is handed out."""
    fill(bootstrap, unused, 5_000)

    async def work() -> tuple[int, int]:
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        async with aio.Consumer(
            unused, bootstrap=bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            seen = 0
            while not seen:
                seen = len(await consumer.poll(5.0, 1))
            loop.call_soon(turn)
            while seen < 5_000:
                seen += len(await consumer.poll(5.0, 500))
            return seen, turns

    seen, turns = asyncio.run(work())
    assert (seen, turns > 0) == (5_000, True)


def test_cancelled_poll_loses_no_record(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused, 5)

    async def work() -> list[int]:
        async with aio.Consumer(
            unused, bootstrap=bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            seen: list[int] = []
            for _ in range(200):
                try:
                    async with asyncio.timeout(0.002):
                        seen += numbers(await consumer.poll(10.0, 1))
                except TimeoutError:
                    continue
                if len(seen) == 5:
                    break
            while len(seen) < 5:
                seen += numbers(await consumer.poll(10.0, 1))
            return seen

    assert asyncio.run(work()) == [0, 1, 2, 3, 4]
