"""Batches, retries and sequences: order and uniqueness, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.client.errors import DeliveryTimeout
from ottla.client.producer.accumulator import Accumulator, Limits
from ottla.client.producer.chosen_intake import Batch
from ottla.client.producer.partition_queue import MAX_EPOCH
from ottla.client.types import RecordMetadata
from ottla.errors import ErrorCode, KafkaError
from tests.support.producer_intake import each_intake

__all__ = ["each_intake"]

pytestmark = pytest.mark.usefixtures("each_intake")

LIMITS = Limits(
    batch_size=100,
    linger_ms=10,
    buffer_memory=10_000,
    max_request_size=1_000,
    delivery_timeout_ms=1_000,
    retry_backoff_ms=50,
    retry_backoff_max_ms=400,
    max_in_flight=5,
    idempotent=True,
)
RETRY = KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
LOST = KafkaError(ErrorCode.NETWORK_EXCEPTION)
TOO_EARLY = KafkaError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
FATAL = KafkaError(ErrorCode.INVALID_RECORD)


class Room:
    """An accumulator with one topic, and a broker that the test plays."""

    def __init__(self, *, partitions: int = 1, acknowledged: bool = True, **changes: Any) -> None:
        self.signals = 0
        self.chosen: list[int] = []
        self.accumulator = Accumulator(
            LIMITS._replace(**changes), self._signal, self._choose, lambda: self.now_ms
        )
        self.accumulator.producer_id = 7
        self.accumulator.producer_epoch = 0
        self.topic = self.accumulator.topic("t")
        self.accumulator.update_topic(self.topic, partitions, range(partitions))
        for queue in self.topic.queues:
            queue.acknowledged = acknowledged  # the broker knows the producer already
        self.now_ms = 0

    def _signal(self) -> None:
        self.signals += 1

    def _choose(self, count: int) -> int:
        self.chosen.append(len(self.chosen) % count)
        return self.chosen[-1]

    def send(self, value: bytes = b"", partition: int | None = 0, size: int = 60) -> Batch:
        batch = self.accumulator.buffer.batch_for(self.topic, partition, size)
        batch.timestamps.append(self.now_ms)
        batch.values.append(value)
        return batch

    def drain(self, after_ms: int = 0) -> list[Batch]:
        """One round: at most one batch a partition."""
        self.now_ms += after_ms
        drained = self.accumulator.drain(lambda topic, partition: 1, {1: 5}, self.now_ms)
        return drained.by_node.get(1, [])

    def drain_all(self, after_ms: int = 0) -> list[Batch]:
        self.now_ms += after_ms
        found: list[Batch] = []
        while batches := self.drain():
            found += batches
        return found

    def reject(self, batch: Batch, error: KafkaError) -> None:
        for call in self.accumulator.reject(batch, error, self.now_ms):
            call()

    def complete(self, batch: Batch, base_offset: int = 0) -> None:
        for call in self.accumulator.complete(batch, base_offset, -1):
            call()


def test_records_linger_until_time_or_size_sends_them() -> None:
    room = Room()
    first = room.send(size=30)
    assert room.drain() == []
    assert room.accumulator.next_look_ms(room.now_ms) == 10
    room.send(size=80)  # does not fit beside the first
    assert room.drain() == [first]
    assert room.drain() == []
    assert len(room.drain(after_ms=10)) == 1


def test_flush_does_not_wait_for_the_linger() -> None:
    room = Room()
    batch = room.send()
    assert room.accumulator.begin_flush() == [batch]
    assert room.drain() == [batch]
    room.accumulator.end_flush()
    room.send()
    assert room.drain() == []


def test_an_idle_sender_is_woken_once_and_a_lingering_one_only_by_a_full_batch() -> None:
    room = Room()
    room.accumulator.arm(lingering=False)
    room.send(size=30)
    room.send(size=30)
    assert room.signals == 1
    room.accumulator.arm(lingering=True)
    room.send(size=30)
    assert room.signals == 1
    room.send(size=30)
    assert room.signals == 2


def test_sequences_are_assigned_in_the_order_of_draining() -> None:
    room = Room()
    batches = [room.send(size=90) for _ in range(3)]
    drained = room.drain_all(after_ms=10)
    assert drained == batches
    assert [b.base_sequence for b in drained] == [0, 1, 2]
    assert {(b.producer_id, b.producer_epoch) for b in drained} == {(7, 0)}


def test_sequences_wrap_to_zero_as_the_brokers_do() -> None:
    room = Room()
    room.topic.queues[0].producer_id, room.topic.queues[0].epoch = 7, 0
    room.topic.queues[0].next_sequence = 2**31 - 2
    for _ in range(3):
        room.send(size=90)
    assert [b.base_sequence for b in room.drain_all(after_ms=10)] == [2**31 - 2, 2**31 - 1, 0]


def test_at_most_five_batches_of_a_partition_are_in_flight() -> None:
    room = Room()
    for _ in range(7):
        room.send(size=90)
    drained = room.drain_all(after_ms=10)
    assert len(drained) == 5
    room.complete(drained[0])
    assert len(room.drain_all()) == 1


def test_nothing_is_in_flight_beside_the_first_batch_that_a_broker_hears_of() -> None:
    room = Room(acknowledged=False)
    first, second = room.send(size=90), room.send(size=90)
    assert room.drain_all(after_ms=10) == [first]
    room.reject(first, RETRY)
    assert room.drain_all(after_ms=50) == [first]
    room.complete(first)
    assert room.drain_all() == [second]


def test_nothing_is_in_flight_beside_the_first_batch_for_a_topic_that_was_made_anew() -> None:
    room = Room(acknowledged=False)
    room.accumulator.update_topic(room.topic, 1, [0], b"1" * 16)
    before = room.send(size=90)
    room.drain(after_ms=10)
    room.complete(before)
    room.accumulator.update_topic(room.topic, 1, [0], b"2" * 16)
    first, second = room.send(size=90), room.send(size=90)
    assert room.drain_all(after_ms=10) == [first]
    room.complete(first)
    assert room.drain_all() == [second]


def test_sequence_of_a_batch_that_a_former_leader_may_have_appended_is_not_given_again() -> None:
    room = Room()
    first = room.send(size=90)
    room.drain(after_ms=10)
    room.reject(first, RETRY)
    room.now_ms = 1000
    room.accumulator.expire(room.now_ms)
    assert isinstance(first.error, DeliveryTimeout)
    second = room.send(size=90)
    room.drain(after_ms=50)
    assert (second.producer_epoch, second.base_sequence) == (1, 0)


def test_without_idempotence_one_batch_is_in_flight_so_that_no_retry_overtakes() -> None:
    room = Room(idempotent=False)
    room.accumulator.producer_id = -1
    first, second = room.send(size=90), room.send(size=90)
    assert room.drain_all(after_ms=10) == [first]
    room.reject(first, RETRY)
    assert room.drain_all(after_ms=50) == [first]
    room.complete(first)
    assert room.drain_all() == [second]
    assert second.base_sequence == -1


def test_retried_batches_go_out_again_in_order_and_one_at_a_time() -> None:
    room = Room()
    batches = [room.send(size=90) for _ in range(4)]
    a, b, c, d = batches
    assert room.drain_all(after_ms=10) == batches
    room.reject(a, RETRY)
    assert room.drain_all(after_ms=50) == []  # what follows is still in flight
    room.reject(c, TOO_EARLY)
    room.reject(b, TOO_EARLY)
    room.reject(d, TOO_EARLY)
    sent = []
    while batch := room.drain(after_ms=400):
        assert room.drain_all() == []
        sent += batch
        room.complete(batch[0])
    assert sent == batches
    assert [x.base_sequence for x in batches] == [0, 1, 2, 3]
    assert not room.accumulator.incomplete
    assert room.accumulator.buffered_bytes == 0


def test_a_retry_waits_for_its_back_off() -> None:
    room = Room()
    batch = room.send()
    room.drain(after_ms=10)
    room.reject(batch, RETRY)
    assert room.drain(after_ms=49) == []
    assert room.accumulator.next_look_ms(room.now_ms) == room.now_ms + 1
    assert room.drain(after_ms=1) == [batch]
    room.reject(batch, RETRY)
    assert room.drain(after_ms=99) == []
    assert room.drain(after_ms=1) == [batch]


def test_sequence_lost_by_the_broker_starts_a_new_epoch() -> None:
    room = Room()
    first, second = room.send(size=90), room.send(size=90)
    room.drain_all(after_ms=10)
    room.reject(first, TOO_EARLY)  # nothing before it: the broker has forgotten us
    room.reject(second, TOO_EARLY)
    assert room.drain(after_ms=50) == [first]
    room.complete(first)
    assert room.drain(after_ms=50) == [second]
    assert [(b.producer_epoch, b.base_sequence) for b in (first, second)] == [(1, 0), (1, 1)]


def test_fatal_error_of_the_only_batch_gives_its_sequence_to_the_next() -> None:
    room = Room()
    first = room.send(size=90)
    room.drain(after_ms=10)
    room.reject(first, FATAL)
    assert first.error is FATAL
    second = room.send(size=90)
    room.drain(after_ms=10)
    assert (second.producer_epoch, second.base_sequence) == (0, 0)


def test_fatal_error_with_others_in_flight_renumbers_them_in_a_new_epoch() -> None:
    room = Room()
    first, second, third = (room.send(size=90) for _ in range(3))
    room.drain_all(after_ms=10)
    room.reject(first, FATAL)
    room.reject(second, TOO_EARLY)
    room.reject(third, TOO_EARLY)
    assert room.drain(after_ms=50) == [second]
    room.complete(second)
    assert room.drain() == [third]
    assert [(b.producer_epoch, b.base_sequence) for b in (second, third)] == [(1, 0), (1, 1)]


def test_batch_of_unknown_fate_keeps_its_sequence_when_one_before_it_expires() -> None:
    room = Room()
    first = room.send(size=90)
    room.now_ms = 500
    second = room.send(size=90)
    room.drain_all()
    room.drain_all(after_ms=10)
    room.reject(first, LOST)
    room.reject(second, LOST)
    room.now_ms = 1000
    for call in room.accumulator.expire(room.now_ms):
        call()
    assert isinstance(first.error, DeliveryTimeout)
    third = room.send(size=90)
    assert room.drain(after_ms=400) == [second]
    assert (second.producer_epoch, second.base_sequence) == (0, 1)
    assert room.drain(after_ms=100) == []  # nothing new while the sequence has a hole
    room.complete(second)
    assert room.drain() == [third]
    assert (third.producer_epoch, third.base_sequence) == (1, 0)


def test_batch_behind_a_hole_that_was_not_written_moves_to_a_new_epoch() -> None:
    room = Room()
    first = room.send(size=90)
    room.now_ms = 500
    second = room.send(size=90)
    room.drain_all()
    room.drain_all(after_ms=10)
    room.reject(first, LOST)
    room.reject(second, LOST)
    room.now_ms = 1000
    room.accumulator.expire(room.now_ms)
    room.drain(after_ms=400)
    room.reject(second, TOO_EARLY)
    room.now_ms += 50
    assert room.drain(after_ms=50) == [second]
    assert (second.producer_epoch, second.base_sequence) == (1, 0)


def test_used_up_epochs_ask_for_a_new_producer_id() -> None:
    room = Room()
    room.accumulator.producer_epoch = MAX_EPOCH
    batch = room.send()
    room.drain(after_ms=10)
    room.reject(batch, TOO_EARLY)
    assert room.drain(after_ms=50) == []
    assert room.accumulator.producer_id == -1
    room.accumulator.producer_id, room.accumulator.producer_epoch = 8, 0
    assert room.drain() == [batch]
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (8, 0, 0)


def test_new_producer_id_leaves_partitions_with_batches_in_flight_their_old_one() -> None:
    """A leader takes any sequence of an id that is new to it: a later batch could overtake."""
    room = Room(partitions=2)
    room.accumulator.producer_epoch = MAX_EPOCH
    used_up = room.send(partition=1)
    room.drain(after_ms=10)
    room.accumulator.producer_epoch = 0
    first = room.send(partition=0)
    room.drain(after_ms=10)
    room.reject(used_up, TOO_EARLY)
    room.drain(after_ms=50)
    assert room.accumulator.producer_id == -1
    room.accumulator.producer_id = 8
    second = room.send(partition=0)
    assert room.drain_all(after_ms=10) == [used_up, second]
    assert (used_up.producer_id, used_up.base_sequence) == (8, 0)
    assert [(b.producer_id, b.base_sequence) for b in (first, second)] == [(7, 0), (7, 1)]


def test_too_large_batch_is_split_and_every_record_finds_its_half() -> None:
    room = Room()
    told: list[RecordMetadata | None] = []
    batch = room.send(b"0", size=25)
    for number in range(1, 4):
        assert room.send(b"%d" % number, size=25) is batch
        batch.call_back(lambda metadata, error: told.append(metadata))
    done: list[bool] = []
    batch.listeners = [lambda: done.append(True)]
    assert room.drain(after_ms=10) == [batch]
    room.reject(batch, KafkaError(ErrorCode.MESSAGE_TOO_LARGE))
    (left,) = room.drain()
    assert left.values == [b"0", b"1"]
    room.complete(left, 10)
    assert not done
    (right,) = room.drain()
    assert (left.base_sequence, right.base_sequence) == (0, 2)
    room.complete(right, 20)
    assert done == [True]
    places = [batch.part_of(index) for index in range(4)]
    assert [part.metadata(index).offset for part, index in places] == [10, 11, 20, 21]
    assert [m.offset for m in told if m] == [11, 20, 21]


def test_one_record_that_is_too_large_fails() -> None:
    room = Room()
    batch = room.send()
    room.drain(after_ms=10)
    room.reject(batch, KafkaError(ErrorCode.MESSAGE_TOO_LARGE))
    assert batch.error is not None
    assert batch.error.code is ErrorCode.MESSAGE_TOO_LARGE


def test_duplicate_sequence_is_a_success_of_unknown_offset() -> None:
    room = Room()
    batch = room.send()
    room.drain(after_ms=10)
    room.reject(batch, KafkaError(ErrorCode.DUPLICATE_SEQUENCE_NUMBER))
    assert batch.done
    assert batch.error is None
    assert batch.metadata(0).offset == -1


def test_what_is_never_sent_expires_without_costing_a_sequence() -> None:
    room = Room()
    batch = room.send()
    for call in room.accumulator.expire(1000):
        call()
    assert isinstance(batch.error, DeliveryTimeout)
    assert room.accumulator.buffered_bytes == 0
    room.now_ms = 1000
    fresh = room.send()
    room.drain(after_ms=10)
    assert (fresh.producer_epoch, fresh.base_sequence) == (0, 0)


def test_buffer_has_room_again_once_a_batch_is_done() -> None:
    room = Room(buffer_memory=100)
    batch = room.send(size=60)
    assert not room.accumulator.has_room(60)
    room.drain()  # more than half full: nothing lingers
    room.complete(batch)
    assert room.accumulator.has_room(60)


def test_a_topic_without_a_leader_is_named() -> None:
    room = Room()
    room.send()
    drained = room.accumulator.drain(lambda topic, partition: None, {1: 5}, 10)
    assert drained.by_node == {}
    assert drained.leaderless == {"t"}


def test_a_node_without_a_free_slot_gets_nothing() -> None:
    room = Room()
    room.send()
    assert room.accumulator.drain(lambda topic, partition: 1, {1: 0}, 10).by_node == {}


def test_a_request_is_bounded_in_size_over_its_partitions() -> None:
    room = Room(partitions=3, max_request_size=150)
    for partition in range(3):
        room.send(partition=partition, size=90)
    assert len(room.drain(after_ms=10)) == 1
    assert len(room.drain()) == 1
    assert len(room.drain()) == 1


def test_records_without_a_key_stay_with_a_partition_for_its_share_of_bytes() -> None:
    room = Room(partitions=3, batch_size=8000, buffer_memory=10**9)
    partitions = [room.send(partition=None, size=4000).partition for _ in range(12)]
    assert partitions == [0] * 6 + [1] * 6  # 16 KiB and the rest of the third batch


def test_a_new_partition_is_taken_only_where_there_is_a_leader() -> None:
    room = Room(partitions=3)
    room.accumulator.update_topic(room.topic, 3, [2])
    assert room.send(partition=None).partition == 2


@pytest.mark.parametrize("seed", range(20))
def test_any_mix_of_failures_writes_every_record_once_and_in_order(seed: int) -> None:
    import random

    random_ = random.Random(seed)
    room = Room(acknowledged=False, delivery_timeout_ms=10**9, buffer_memory=10**9)
    log: list[bytes] = []
    expected_sequence, epoch = -1, 0
    sent = 0
    while sent < 200 or room.accumulator.incomplete:
        if sent < 200:
            for _ in range(random_.randrange(4)):
                room.send(b"%d" % sent, size=random_.choice((20, 60, 90)))
                sent += 1
        in_flight = room.drain_all(after_ms=random_.choice((1, 10, 500)))
        for batch in in_flight:  # the broker, in the order of the requests
            if random_.random() < 0.15:
                room.reject(batch, random_.choice((RETRY, LOST)))  # never reached it
                continue
            if batch.producer_epoch > epoch:
                epoch, expected_sequence = batch.producer_epoch, 0
            if expected_sequence < 0:  # what it knows nothing of, it takes as it comes
                expected_sequence = batch.base_sequence
            if batch.base_sequence > expected_sequence:
                room.reject(batch, TOO_EARLY)
                continue
            if batch.base_sequence == expected_sequence:
                log += [value or b"" for value in batch.values]
                expected_sequence += len(batch)
            if random_.random() < 0.15:
                room.reject(batch, LOST)  # written, but the answer is lost
            else:
                room.complete(batch, 0)
    assert log == [b"%d" % number for number in range(sent)]
