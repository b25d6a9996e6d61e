"""A record's way into its batch, in both copies: what is refused, what waits, what a handle tells."""

from __future__ import annotations

import threading
from operator import itemgetter
from typing import Any

import pytest

from ottla.client.errors import RecordTooLarge
from ottla.client.partitioner import KeyPartitioner
from ottla.client.producer import chosen_intake
from ottla.client.producer.accumulator import Accumulator, Limits
from ottla.compiled_copies import Choice
from ottla.errors import ErrorCode, KafkaError
from tests.support.producer_intake import copy_of_intake, each_intake

__all__ = ["each_intake"]

NOW_NS = 1_700_000_000_123_456_789
RECORD_BYTES = 21


class Room:
    """An intake with a topic ``t`` of two partitions."""

    def __init__(
        self, copy: Any, *, threads: bool = True, batch_size: int = 1_000, **options: Any
    ) -> None:
        limits = Limits(
            batch_size=batch_size,
            linger_ms=0,
            buffer_memory=5_000,
            max_request_size=2_000,
            delivery_timeout_ms=1000,
            retry_backoff_ms=10,
            retry_backoff_max_ms=100,
            max_in_flight=5,
            idempotent=False,
        )
        self.accumulator = Accumulator(limits, lambda: None, lambda count: 0, lambda: 0)
        self.accumulator.update_topic(self.accumulator.topic("t"), 2, [0, 1])
        self.lock = threading.Lock()
        self.intake = copy.Intake(
            self.accumulator.buffer,
            self.lock,
            threads,
            2_000,
            options.get("serialize_key"),
            options.get("serialize_value"),
            KeyPartitioner(),
            False,
            lambda: NOW_NS,
        )

    def take(self, value: Any = b"v", **fields: Any) -> Any:
        names = ("key", "partition", "timestamp_ms", "headers", "on_delivery")
        return self.intake.take(fields.pop("topic", "t"), value, *map(fields.get, names))

    def records(self) -> list[tuple[Any, ...]]:
        """Partition and record, by partition, in order."""
        return [
            (batch.partition, *record)
            for batch in sorted(self.accumulator.incomplete, key=lambda b: (b.partition, b.order))
            for record in batch.records()
        ]

    def settle(self, error: KafkaError | None = None) -> None:
        drained = self.accumulator.drain(lambda topic, partition: 1, {1: 5}, 0)
        for batch in drained.by_node[1]:
            if error is None:
                calls = self.accumulator.complete(batch, 100, -1)
            else:
                calls = self.accumulator.reject(batch, error, 0)
            for call in calls:
                call()


def test_a_record_is_in_its_batch_as_it_was_given(each_intake: Any) -> None:
    room = Room(each_intake)
    now_ms = NOW_NS // 1_000_000
    room.take(b"1", partition=0)
    room.take(None, partition=0, key="k", timestamp_ms=5)
    room.take("text", partition=0, headers={"h": "x", "n": None})
    room.take(bytearray(b"4"), partition=1, headers=[("a", memoryview(b"b"))])
    assert room.records() == [
        (0, now_ms, None, b"1", ()),
        (0, 5, b"k", None, ()),
        (0, now_ms, None, b"text", [("h", b"x"), ("n", None)]),
        (1, now_ms, None, b"4", [("a", b"b")]),
    ]
    assert room.accumulator.buffered_bytes == sum(
        batch.size_bytes for batch in room.accumulator.incomplete
    )


def test_serializers_make_the_bytes_and_are_given_no_none(each_intake: Any) -> None:
    room = Room(each_intake, serialize_key=str, serialize_value=lambda value: value[::-1])
    room.take(b"ab", key=12, partition=0)
    room.take(None, partition=0)
    assert [record[2:4] for record in room.records()] == [(b"12", b"ba"), (None, None)]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"value": 5}, TypeError),
        ({"key": 5.0}, TypeError),
        ({"timestamp_ms": 1.5}, TypeError),
        ({"timestamp_ms": -1}, ValueError),
        ({"timestamp_ms": 1 << 63}, ValueError),
        ({"partition": -1}, ValueError),
        ({"headers": [(b"name", b"")]}, TypeError),
        ({"headers": {"name": 5}}, TypeError),
        ({"value": bytes(2_000)}, RecordTooLarge),
    ],
)
def test_what_is_no_record_is_refused_and_leaves_nothing_behind(
    each_intake: Any, fields: dict[str, Any], error: type[Exception]
) -> None:
    room = Room(each_intake)
    room.take(b"before", partition=0)
    before = room.records()
    with pytest.raises(error):
        room.take(**{"partition": 0, **fields})
    assert room.records() == before
    assert not room.lock.locked()


def test_a_record_waits_for_its_topic_its_partition_and_room(each_intake: Any) -> None:
    room = Room(each_intake)
    assert room.take(b"v", topic="unknown") == RECORD_BYTES + 1
    assert room.take(b"v", partition=2) == RECORD_BYTES + 1
    while not isinstance(room.take(bytes(500)), int):
        pass
    assert room.accumulator.buffered_bytes == 5_000 // (500 + RECORD_BYTES) * (500 + RECORD_BYTES)
    room.intake.closed = True
    assert room.take(b"") == RECORD_BYTES


def test_after_a_fork_nobody_waits_for_the_lock_that_the_parent_held(each_intake: Any) -> None:
    room = Room(each_intake)
    room.lock.acquire()
    room.intake.closed = True
    assert isinstance(room.take(b"v"), int)


def test_the_loop_turns_between_many_records(each_intake: Any) -> None:
    room = Room(each_intake, threads=False)
    taken = [room.take(b"", partition=0) for _ in range(100)]
    assert all(isinstance(each, each_intake.AsyncDelivery) for each in taken)
    room.intake._buffer.limit_bytes = 1 << 30
    found = [room.take(b"", partition=0) for _ in range(each_intake.TURN_RECORDS + 1)]
    assert found.count(each_intake.LET_LOOP_TURN) == 1


def test_a_handle_tells_where_its_record_went(each_intake: Any) -> None:
    room = Room(each_intake)
    handles = [room.take(b"v", partition=1, timestamp_ms=index) for index in range(3)]
    told: list[Any] = []
    handles[1].add_done_callback(told.append)
    assert [handle.done() for handle in handles] == [False] * 3
    assert repr(handles[0]) == "<Delivery under way>"
    with pytest.raises(TimeoutError):
        handles[0].result(0.0)
    room.settle()
    assert [handle.result(0.0) for handle in handles] == [("t", 1, 100 + i, i) for i in range(3)]
    assert told == [handles[1]]
    handles[2].add_done_callback(told.append)
    assert told == [handles[1], handles[2]]
    assert repr(handles[0]) == "<Delivery done>"
    assert handles[0].exception(0.0) is None


def test_a_handle_tells_what_became_of_its_record(each_intake: Any) -> None:
    room = Room(each_intake)
    told: list[Any] = []
    handle = room.take(b"v", partition=0, on_delivery=lambda *what: told.append(what))
    error = KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "t")
    room.settle(error)
    assert told == [(None, error)]
    assert handle.exception(0.0) is error
    with pytest.raises(KafkaError, match="t"):
        handle.result(0.0)


def test_what_threads_give_while_batches_leave_is_in_one_batch_each_and_counted(
    each_intake: Any,
) -> None:
    """The sender drains with the lock; threads of the application take, which need it for a new batch only."""
    room = Room(each_intake, batch_size=200)
    room.intake._buffer.limit_bytes = 1 << 40
    per_thread, threads = 2_000, 3
    sent: list[tuple[int, Any]] = []
    ended = threading.Event()

    def give(number: int) -> None:
        for index in range(per_thread):
            room.take(b"%d" % index, timestamp_ms=number, partition=index % 2)

    def drain() -> None:
        while True:
            last = ended.is_set()
            with room.lock:
                drained = room.accumulator.drain(lambda topic, partition: 1, {1: 5}, 10**9)
                for batch in drained.by_node.get(1, ()):
                    assert batch.closed
                    assert len(batch.values) == len(batch.timestamps)
                    sent.extend(zip(batch.timestamps, batch.values, strict=True))
                    room.accumulator.complete(batch, 0, -1)
            if last and not room.accumulator.incomplete:
                return

    givers = [threading.Thread(target=give, args=(number,)) for number in range(threads)]
    drainer = threading.Thread(target=drain)
    for thread in (drainer, *givers):
        thread.start()
    for thread in givers:
        thread.join()
    ended.set()
    drainer.join()
    assert room.accumulator.buffered_bytes == 0
    for number in range(threads):
        for parity in range(2):
            values = [int(v) for n, v in sent if n == number and int(v) % 2 == parity]
            assert values == list(range(parity, per_thread, 2))
    assert sorted(map(itemgetter(0), sent)) == sorted(list(range(threads)) * per_thread)


def test_the_compiled_copy_alone_does_without_the_lock() -> None:
    assert not copy_of_intake("interpreted").is_compiled()
    assert copy_of_intake("compiled").is_compiled()


def test_the_environment_asks_for_the_interpreted_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTTLA_INTERPRETED", "1")
    assert chosen_intake.choose() == Choice(False, "OTTLA_INTERPRETED is set")
