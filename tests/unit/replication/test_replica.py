"""What a follower does with its log and its high watermark."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ottla.errors import ErrorCode
from ottla.log.flusher import Durability
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.replication.partition import Partition
from tests.unit.log.samples import NOW_MS, TOPIC_ID, batch, disk, new_log
from tests.unit.replication.leaders import new_replicas
from tests.unit.replication.test_partition import Listener, append, led


def sent(offset: int, count: int = 1, *, epoch: int = 5) -> bytearray:
    """A batch as a leader sends it."""
    return batch(count, base_offset=offset, leader_epoch=epoch)


def test_a_leader_that_follows_now_fails_who_waits_and_keeps_its_high_watermark() -> None:
    partition = led(new_log(disk()))
    append(partition, 2)
    partition.log.flush(NOW_MS)
    append(partition)
    waiting = Listener()
    partition.when_committed(3, waiting, "last")
    assert partition.follow(2, 6, 3, [1, 2], [2])
    assert waiting.told == [("last", ErrorCode.NOT_LEADER_OR_FOLLOWER)]
    assert (partition.is_leader, partition.leader_id, partition.leader_epoch) == (False, 2, 6)
    partition.log.flush(NOW_MS)
    assert partition.high_watermark == 2
    assert not partition.follow(2, 6, 4, [1, 2], [2, 1])
    assert partition.partition_epoch == 4


def test_a_followers_high_watermark_is_its_leaders_as_far_as_it_acknowledges() -> None:
    for durability, reached in ((Durability.DISK, 0), (Durability.OS, 3)):
        partition = led(new_log(disk()), durability)
        partition.follow(2, 6, 3, [1, 2], [2])
        partition.append_as_follower(sent(0, 3), NOW_MS)
        partition.learn_high_watermark(5)
        assert partition.high_watermark == reached
        partition.log.flush(NOW_MS)
        assert partition.high_watermark == 3
        partition.learn_high_watermark(1)
        assert partition.high_watermark == 3
        partition.truncate_to(1, NOW_MS)  # its one batch reaches it
        assert partition.high_watermark == 0
        partition.truncate_fully_to(40, NOW_MS)
        assert (partition.high_watermark, partition.log.log_start_offset) == (40, 40)


def test_a_follower_that_begins_anew_acknowledges_that_once_it_is_on_disk() -> None:
    partition = led(new_log(disk()), Durability.DISK)
    wanted: list[Any] = []
    partition.log.on_flush_wanted = wanted.append
    partition.follow(2, 6, 3, [1, 2], [2])
    partition.append_as_follower(sent(0, 3), NOW_MS)
    partition.log.flush(NOW_MS)
    wanted.clear()
    partition.truncate_fully_to(40, NOW_MS)
    assert wanted == [partition.log]
    assert partition.acknowledged_end_offset < partition.log.log_end_offset == 40
    partition.log.flush(NOW_MS)
    assert partition.acknowledged_end_offset == 40


def test_an_order_to_follow_of_an_earlier_epoch_changes_nothing() -> None:
    replicas = new_replicas()

    def follow(leader: int, epoch: int) -> ErrorCode:
        state = LeaderAndIsrPartitionState(
            leader=leader, leader_epoch=epoch, replicas=[1, 2, 3], isr=[2, 3]
        )
        return replicas.follow("orders", TOPIC_ID, state)

    assert follow(2, 5) is ErrorCode.NONE
    partition = replicas.get("orders", 0)
    assert partition is not None
    assert follow(3, 4) is ErrorCode.STALE_BROKER_EPOCH
    assert (partition.leader_id, partition.leader_epoch) == (2, 5)
    assert follow(3, 6) is ErrorCode.NONE
    assert (partition.leader_id, partition.leader_epoch) == (3, 6)


def test_a_broker_that_is_let_go_copies_nothing_for_an_isr_that_it_has_left() -> None:
    """Its leader would ask for it to join, in vain, as long as it is there."""
    copied: set[Partition] = set()
    fetchers = SimpleNamespace(follow=copied.add, stop=copied.discard)
    replicas = new_replicas(make_fetchers=lambda replicas: fetchers)

    def follow(epoch: int, isr: list[int]) -> None:
        state = LeaderAndIsrPartitionState(
            leader=2, leader_epoch=epoch, replicas=[1, 2, 3], isr=isr
        )
        assert replicas.follow("orders", TOPIC_ID, state) is ErrorCode.NONE

    follow(5, [2, 3])
    assert len(copied) == 1
    replicas.is_leaving = True
    follow(6, [1, 2, 3])
    assert len(copied) == 1, "it is waited for"
    follow(7, [2, 3])
    assert not copied
