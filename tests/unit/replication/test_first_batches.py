"""A producer that a new leader does not know, and whose earlier batches the old one may have refused."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.producer_state import AlreadyAppended
from ottla.replication import first_batches
from ottla.replication.first_batches import FIRST_MS
from tests.unit.log.samples import NOW_MS, idempotent
from tests.unit.replication.leaders import EPOCH, Leader

PRODUCER = 1000
COME_AGAIN = ErrorCode.NOT_ENOUGH_REPLICAS


def send(leader: Leader, sequence: int, count: int = 1, *, producer: int = PRODUCER) -> int:
    """Send a batch; its first offset."""
    records = memoryview(idempotent(producer, sequence, count))
    appended = leader.partition.append_as_leader(records, NOW_MS, required_acks=-1)
    assert not hasattr(appended, "result")
    return int(appended.base_offset)  # type: ignore[union-attr]


def refused(
    leader: Leader, sequence: int, count: int = 1, *, producer: int = PRODUCER
) -> ErrorCode:
    """Send a batch that is not let in."""
    with pytest.raises(KafkaError) as error:
        send(leader, sequence, count, producer=producer)
    return error.value.code


def test_a_later_batch_that_comes_first_is_not_let_in_before_what_the_old_leader_refused() -> None:
    leader = Leader([1, 2], [1, 2])
    assert refused(leader, 30, 18) is COME_AGAIN
    assert refused(leader, 48) is COME_AGAIN
    assert [send(leader, 0, 30), send(leader, 30, 18), send(leader, 48)] == [0, 30, 48]


def test_who_begins_there_after_all_is_let_in_the_second_time_and_what_is_behind_it_waits() -> None:
    leader = Leader([1, 2], [1, 2])
    assert [refused(leader, 7, 2), refused(leader, 9), refused(leader, 9)] == [COME_AGAIN] * 3
    assert [send(leader, 7, 2), send(leader, 9)] == [0, 2]
    assert refused(leader, 0, 7) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_producer_that_is_known_or_begins_at_0_or_has_no_id_is_let_in_at_once() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append(1)
    assert [send(leader, 0), send(leader, 1)] == [1, 2]
    leader.lead(EPOCH + 2)
    assert send(leader, 2) == 3
    with pytest.raises(AlreadyAppended):
        send(leader, 0, 2)


def test_each_epoch_asks_anew_and_only_for_some_seconds() -> None:
    leader = Leader([1, 2], [1, 2])
    assert refused(leader, 4) is COME_AGAIN
    leader.lead(EPOCH + 1)
    assert refused(leader, 4) is COME_AGAIN
    leader.clock.advance(FIRST_MS)
    assert send(leader, 4) == 0


def test_a_partition_that_nobody_led_before_takes_any_first_sequence() -> None:
    new = Leader([1, 2], [1, 2], leader_epoch=0)
    assert send(new, 4) == 0
    alone = Leader([1], [1])
    assert send(alone, 4) == 0


def test_no_more_producers_are_kept_in_mind_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_batches, "PRODUCERS_MAX", 2)
    leader = Leader([1, 2], [1, 2])
    assert [refused(leader, 4, producer=one) for one in (1, 2)] == [COME_AGAIN] * 2
    assert send(leader, 4, producer=3) == 0
