"""What a follower asks for, what it appends, and where it cuts its log."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.clock import ManualClock
from ottla.errors import ErrorCode
from ottla.log.flusher import Durability
from ottla.log.log import Log
from ottla.messages.fetch import FetchRequest, FetchResponse
from ottla.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.replication.copies import Limits
from ottla.replication.copying import Copying, pieces
from ottla.replication.partition import Partition
from ottla.replication.quota import ReplicationQuota
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import NOW_MS, PARENT, TOPIC_ID, all_records, batch, disk
from tests.unit.replication.leading import Leader, replica_of

LIMITS = Limits(
    max_bytes=1 << 20, response_max_bytes=10 << 20, min_bytes=1, wait_max_ms=500, backoff_ms=1000
)


def a_log(topic: str = "orders", index: int = 0, **settings: Any) -> Log:
    """An empty log on a disk of its own."""
    topic_id = TOPIC_ID if topic == "orders" else topic.encode().ljust(16)
    return Log.create(disk(), PARENT, topic, index, topic_id, TopicConfig.of(**settings), NOW_MS)


def leading(log: Log, epoch: int = 5, durability: Durability = Durability.OS) -> Partition:
    partition = replica_of(log, node_id=2, durability=durability)
    partition.become_leader(epoch, 0, [1, 2], [2])
    return partition


THROTTLED = {"follower_replication_throttled_replicas": ("0:1",)}


class Follower:
    """Broker 1, which copies from broker 2; its clock is moved by hand."""

    def __init__(
        self,
        *replicas: Partition,
        epoch: int = 5,
        version: int = 15,
        throttle: ReplicationQuota | None = None,
    ) -> None:
        self.now = 0.0
        self.version = version
        self.limits = LIMITS
        self.copying = Copying(2, node_id=1, throttle=throttle)
        for replica in replicas:
            replica.follow(2, epoch, 0, [1, 2], [2])
            self.copying.add(replica)

    def ask(self) -> FetchRequest | None:
        return self.copying.next_fetch(self.limits, self.now, version=self.version, broker_epoch=77)

    def take(self, response: FetchResponse) -> None:
        for _ in self.copying.answered(response, lambda: self.now, NOW_MS):
            pass

    def fetch(self, leader: Leader) -> bool:
        """One round: ask, take in, and do what is left to be done. Whether there was anything to ask."""
        request = self.ask()
        if request is None:
            return False
        self.take(leader.fetch(request, self.version))
        self.settle(leader)
        return True

    def settle(self, leader: Leader) -> None:
        for replica in self.copying.appended:
            replica.log.flush(NOW_MS)
        self.copying.appended = {}
        asking, self.copying.asking = self.copying.asking, []
        for copy in asking:
            ends = [
                leader.list_offsets(
                    ListOffsetsRequest(
                        topics=[
                            ListOffsetsTopic(
                                name=copy.replica.topic,
                                partitions=[
                                    ListOffsetsPartition(
                                        partition_index=copy.replica.index, timestamp=at
                                    )
                                ],
                            )
                        ]
                    )
                )
                .topics[0]
                .partitions[0]
                .offset
                for at in (-2, -1)
            ]
            self.copying.found_range(copy, ends[0], ends[1], self.now)
        cuts, self.copying.cuts = self.copying.cuts, []
        for cut in cuts:
            self.copying.cut(cut, self.now, NOW_MS)
        for replica, start in self.copying.starts_due().items():
            replica.start_at(start)
            self.copying.touched(replica)


def follower_of(log: Log, durability: Durability = Durability.OS) -> Partition:
    return replica_of(log, node_id=1, durability=durability)


def values(log: Log) -> list[tuple[int, bytes]]:
    return [(record.offset, bytes(record.value or b"")) for record in all_records(log)]


def test_a_follower_gets_what_its_leader_has_and_learns_what_is_committed() -> None:
    leader = Leader(leading(a_log()))
    replica = follower_of(a_log())
    follower = Follower(replica)
    for size in (10, 20, 30):
        leader.append(count=3, size=size)
    assert follower.fetch(leader)
    assert values(replica.log) == values(leader.partitions["orders", 0].log)
    assert (replica.log.log_end_offset, replica.high_watermark) == (9, 9)
    assert replica.log.epochs.entries == [(5, 0)]
    assert leader.asked[0].replica_state is not None
    assert leader.asked[0].replica_state.replica_id == 1
    assert leader.asked[0].replica_state.replica_epoch == 77


def test_a_session_names_what_changed_only() -> None:
    logs = [leading(a_log(index=index)) for index in range(3)]
    leader = Leader(*logs)
    follower = Follower(*[follower_of(a_log(index=index)) for index in range(3)])
    follower.fetch(leader)
    leader.append(index=1)
    follower.fetch(leader)
    follower.fetch(leader)
    follower.fetch(leader)
    named = [[p.partition for t in asked.topics for p in t.partitions] for asked in leader.asked]
    assert named == [[0, 1, 2], [], [1], []]
    assert [asked.session_epoch for asked in leader.asked] == [0, 1, 2, 3]
    follower.copying.remove(next(iter(follower.copying)).replica)
    follower.fetch(leader)
    assert [t.partitions for t in leader.asked[-1].forgotten_topics_data] == [[0]]


def test_a_session_that_is_gone_or_a_lost_connection_begins_a_new_one() -> None:
    leader = Leader(leading(a_log()))
    replica = follower_of(a_log())
    follower = Follower(replica)
    follower.fetch(leader)
    leader.sessions = Leader().sessions
    leader.append()
    follower.fetch(leader)  # its session is not known
    follower.fetch(leader)
    assert replica.log.log_end_offset == 1
    follower.ask()
    follower.copying.lost()
    leader.append()
    follower.fetch(leader)
    assert replica.log.log_end_offset == 2
    assert [asked.session_epoch for asked in leader.asked] == [0, 1, 0, 0]


def test_without_ids_topics_go_by_name() -> None:
    leader = Leader(leading(a_log()))
    replica = follower_of(a_log())
    follower = Follower(replica, version=12)
    leader.append()
    follower.fetch(leader)
    assert (leader.asked[0].topics[0].topic, leader.asked[0].replica_id) == ("orders", 1)
    assert replica.log.log_end_offset == 1


@pytest.mark.parametrize("epoch_of_other", [5, 6])
def test_an_answer_counts_only_for_the_epoch_and_position_that_it_was_asked_for(
    epoch_of_other: int,
) -> None:
    leader = Leader(leading(a_log()))
    replica = follower_of(a_log())
    follower = Follower(replica)
    leader.append(count=2)
    request = follower.ask()
    assert request is not None
    response = leader.fetch(request)
    if epoch_of_other == 6:
        replica.follow(2, 6, 1, [1, 2], [2])
        follower.copying.add(replica)
    else:
        replica.append_as_follower(batch(1, base_offset=0, leader_epoch=5), NOW_MS)
    end = replica.log.log_end_offset
    follower.take(response)
    assert replica.log.log_end_offset == end
    assert replica.high_watermark == 0


def test_an_answer_of_a_leader_that_was_left_is_not_applied() -> None:
    leader = Leader(leading(a_log()))
    replica = follower_of(a_log())
    follower = Follower(replica)
    leader.append(count=2)
    request = follower.ask()
    assert request is not None
    response = leader.fetch(request)
    replica.follow(3, 6, 1, [1, 2, 3], [3])  # its fetcher has not heard of it yet
    follower.take(response)
    assert replica.log.log_end_offset == 0


def test_a_followers_log_is_cut_where_it_parts_from_its_leaders() -> None:
    ours, theirs = leading(a_log(), epoch=3), leading(a_log(), epoch=3)
    for one in (ours, theirs):
        one.append_as_leader(memoryview(batch(2)), NOW_MS, required_acks=1)
    ours.become_leader(4, 0, [1], [1])
    ours.append_as_leader(memoryview(batch(3, size=77)), NOW_MS, required_acks=1)
    replica = follower_of(ours.log)
    theirs.become_leader(5, 0, [2], [2])
    leader = Leader(theirs)
    leader.append(count=1)
    follower = Follower(replica)
    follower.fetch(leader)
    assert replica.log.log_end_offset == 2
    follower.fetch(leader)
    assert values(replica.log) == values(theirs.log)
    assert replica.log.epochs.entries == theirs.log.epochs.entries == [(3, 0), (5, 2)]


def test_epochs_that_only_one_of_two_logs_has_are_cut_step_by_step() -> None:
    """KIP-279: a fast fail-over leaves both logs with epochs that the other one lacks."""
    ours, theirs = leading(a_log(), epoch=1), leading(a_log(), epoch=1)
    for one in (ours, theirs):
        one.append_as_leader(memoryview(batch(5)), NOW_MS, required_acks=1)
    for epoch, log in ((2, ours), (3, theirs), (4, ours), (5, theirs), (6, ours)):
        log.become_leader(epoch, 0, [1], [1])
        log.append_as_leader(memoryview(batch(epoch, size=epoch)), NOW_MS, required_acks=1)
    replica = follower_of(ours.log)
    theirs.become_leader(7, 0, [2], [2])
    leader = Leader(theirs)
    follower = Follower(replica, epoch=7)
    for _ in range(6):
        follower.fetch(leader)
        follower.now += 10
    assert values(replica.log) == values(theirs.log)
    assert [e.epoch for e in replica.log.epochs.entries] == [1, 3, 5]


def test_a_follower_that_is_behind_its_leaders_start_begins_there() -> None:
    theirs = leading(a_log(segment_bytes=200))
    leader = Leader(theirs)
    for _ in range(6):
        leader.append(count=1, size=100)
    theirs.log.flush(NOW_MS)
    theirs.delete_records(4, NOW_MS)
    ours = a_log()
    replica = follower_of(ours)
    follower = Follower(replica)
    replica.append_as_follower(batch(1, base_offset=0, leader_epoch=5), NOW_MS)
    follower.fetch(leader)
    assert (ours.log_start_offset, ours.log_end_offset) == (4, 4)
    follower.fetch(leader)
    assert (ours.log_start_offset, ours.log_end_offset, replica.high_watermark) == (4, 6, 6)


@pytest.mark.parametrize("durability", [Durability.OS, Durability.DISK])
def test_a_leader_that_starts_amid_a_batch_is_followed_from_that_batch_on(
    durability: Durability,
) -> None:
    theirs = leading(a_log())
    leader = Leader(theirs)
    leader.append(count=10)
    theirs.delete_records(6, NOW_MS)
    replica = follower_of(a_log(), durability)
    follower = Follower(replica)
    for _ in range(4):
        follower.fetch(leader)
        replica.log.flush(NOW_MS)
        assert replica.log.log_start_offset <= replica.high_watermark
        follower.copying.touched(replica)
        follower.now += 1
    assert replica.log.log_end_offset == 10
    assert replica.log.log_start_offset == 6


def test_a_leader_that_ends_before_its_follower_is_followed_after_an_unclean_election() -> None:
    theirs = leading(a_log())
    leader = Leader(theirs)
    leader.append(count=2)
    replica = follower_of(a_log())
    follower = Follower(replica)
    for offset in (0, 2, 4):
        replica.append_as_follower(batch(2, base_offset=offset, leader_epoch=5), NOW_MS)
    leader.codes["orders", 0] = ErrorCode.OFFSET_OUT_OF_RANGE
    follower.fetch(leader)
    assert replica.log.log_end_offset == 2


def test_no_log_is_cut_below_what_its_leader_has_told_to_be_committed() -> None:
    theirs = leading(a_log())
    leader = Leader(theirs)
    leader.append(count=2)
    leader.append(count=2)
    replica = follower_of(a_log())
    follower = Follower(replica)
    follower.fetch(leader)
    assert replica.high_watermark == 4
    theirs.log.truncate_to(2, NOW_MS)  # the leader has lost what it said that it had
    leader.append(count=1, size=70)
    for _ in range(5):
        follower.fetch(leader)
        follower.now += 2
    assert replica.log.log_end_offset == 4
    assert replica.high_watermark == 4


def test_what_is_damaged_on_its_way_is_asked_for_again() -> None:
    theirs = leading(a_log())
    leader = Leader(theirs)
    leader.append(count=2)
    leader.append(count=2)
    replica = follower_of(a_log())
    follower = Follower(replica)
    request = follower.ask()
    assert request is not None
    response = leader.fetch(request)
    data = response.responses[0].partitions[0]
    damaged = bytearray(data.records)
    damaged[-1] ^= 1
    data.records = bytes(damaged)
    follower.take(response)
    assert replica.log.log_end_offset == 0
    assert not follower.fetch(leader)
    follower.now += 0.011
    assert follower.fetch(leader)
    assert replica.log.log_end_offset == 4


@pytest.mark.parametrize("epoch", [4, 6])
def test_a_batch_of_an_epoch_that_cannot_be_is_not_appended(epoch: int) -> None:
    replica = follower_of(a_log())
    follower = Follower(replica)
    replica.append_as_follower(batch(1, base_offset=0, leader_epoch=5), NOW_MS)
    leader = Leader(leading(a_log()))
    leader.append()
    request = follower.ask()
    assert request is not None
    response = leader.fetch(request)
    data = response.responses[0].partitions[0]
    data.records = bytes(batch(1, base_offset=1, leader_epoch=epoch))
    follower.take(response)
    assert replica.log.log_end_offset == 1


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.UNKNOWN_TOPIC_ID,
    ],
)
def test_a_partition_that_is_refused_waits_longer_each_time_and_holds_no_other_up(
    code: ErrorCode,
) -> None:
    leader = Leader(leading(a_log()), leading(a_log(index=1)))
    leader.codes["orders", 0] = code
    refused, served = follower_of(a_log()), follower_of(a_log(index=1))
    follower = Follower(refused, served)
    waits = []
    for _ in range(9):
        follower.fetch(leader)
        leader.append(index=1)
        follower.fetch(leader)
        due = follower.copying.next_due(follower.now)
        assert due is not None
        waits.append(round(due - follower.now, 3))
        follower.now = due
    assert waits == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1]
    assert served.log.log_end_offset == 9
    leader.codes.clear()
    leader.append()
    follower.fetch(leader)
    assert refused.log.log_end_offset == 1


def test_a_position_is_told_once_it_is_flushed() -> None:
    theirs = leading(a_log())
    leader = Leader(theirs)
    leader.append()
    replica = follower_of(a_log(), Durability.DISK)
    follower = Follower(replica)
    request = follower.ask()
    assert request is not None
    follower.take(leader.fetch(request))
    assert (replica.log.log_end_offset, replica.high_watermark) == (1, 0)
    assert follower.ask() is None
    assert follower.copying.unflushed == [replica]
    replica.log.flush(NOW_MS)
    assert replica.high_watermark == 1
    follower.copying.touched(replica)
    request = follower.ask()
    assert request is not None
    assert request.topics[0].partitions[0].fetch_offset == 1


def test_a_partition_that_comes_while_a_request_waits_is_in_a_second_one() -> None:
    leader = Leader(leading(a_log()), leading(a_log(index=1)))
    replica, late = follower_of(a_log()), follower_of(a_log(index=1))
    follower = Follower(replica)
    follower.fetch(leader)
    first = follower.ask()
    assert first is not None
    assert not follower.copying.has_news
    late.follow(2, 5, 0, [1, 2], [2])
    follower.copying.add(late)
    assert follower.copying.has_news
    assert follower.copying.may_send_another
    leader.append()
    answer = leader.fetch(first)
    second = follower.ask()
    assert second is not None
    assert [p.partition for p in second.topics[0].partitions] == [1]
    assert not follower.copying.may_send_another
    leader.append(index=1)
    follower.take(answer)
    assert (
        follower.copying.has_news
    )  # what came is to be acknowledged, though another request waits
    assert follower.copying.may_send_another
    follower.take(leader.fetch(second))
    assert (replica.log.log_end_offset, late.log.log_end_offset) == (1, 1)


def test_large_records_come_in_pieces_of_whole_batches() -> None:
    sizes = (100, 200_000, 100_000, 300_000, 10)
    content = b"".join(bytes(batch(1, size=size)) for size in sizes)
    found = list(pieces(content + bytes(batch(1))[:-3]))
    assert b"".join(found) == content
    assert [len(piece) > 190_000 for piece in found] == [True, False, True, False]


def test_a_replica_that_is_behind_waits_while_more_was_copied_than_its_throttle_allows() -> None:
    leader = Leader(leading(a_log()), leading(a_log(index=1)))
    for _ in range(4):
        leader.append(size=2000)
        leader.append(index=1, size=2000)
    clock = ManualClock(NOW_MS)
    slow = follower_of(a_log(**THROTTLED))
    free = follower_of(a_log(index=1, **THROTTLED))  # another partition: 0:1 does not name it
    throttle = ReplicationQuota(lambda: 1100, clock.monotonic)
    follower = Follower(slow, free, throttle=throttle)
    follower.limits = follower.limits._replace(max_bytes=2000)
    ends = []
    for _ in range(6):
        follower.fetch(leader)
        ends.append(slow.log.log_end_offset)
        clock.advance(1000)
    assert ends == [1, 1, 2, 2, 3, 3]
    assert free.log.log_end_offset == 4
    for _ in range(4):
        follower.fetch(leader)
        clock.advance(1000)
    assert slow.log.log_end_offset == 4
    throttle.record(10**6)
    leader.append(size=2000)
    follower.fetch(leader)
    assert slow.log.log_end_offset == 5  # it was in sync: it does not wait


def test_what_was_throttled_is_asked_for_once_it_may_be_though_a_request_waits() -> None:
    leader = Leader(leading(a_log()), leading(a_log(index=1)))
    for _ in range(2):
        leader.append(size=2000)
    clock = ManualClock(NOW_MS)
    throttle = ReplicationQuota(lambda: 1100, clock.monotonic)
    slow, quiet = follower_of(a_log(**THROTTLED)), follower_of(a_log(index=1))
    follower = Follower(slow, quiet, throttle=throttle)
    follower.limits = follower.limits._replace(max_bytes=2000)
    follower.fetch(leader)
    waiting = follower.ask()
    assert waiting is not None
    assert waiting.forgotten_topics_data[0].partitions == [0]
    assert not follower.copying.has_news
    clock.advance(5000)
    assert follower.copying.has_news
    assert follower.copying.may_send_another
    follower.take(leader.fetch(waiting))
    follower.fetch(leader)
    assert slow.log.log_end_offset == 2


def test_a_throttled_replica_is_copied_at_its_rate_and_no_faster() -> None:
    leader = Leader(leading(a_log()))
    for _ in range(300):
        leader.append(size=2000)
    clock = ManualClock(NOW_MS)
    slow = follower_of(a_log(**THROTTLED))
    rate, seconds, a_batch = 10_000, 30, leader.partitions["orders", 0].log.size_bytes // 300
    follower = Follower(slow, throttle=ReplicationQuota(lambda: rate, clock.monotonic))
    follower.limits = follower.limits._replace(max_bytes=a_batch)
    for _ in range(10 * seconds):  # ten times a second, each time a batch: twice as much as it may
        follower.fetch(leader)
        clock.advance(100)
    assert 0.9 * rate * seconds < slow.log.size_bytes <= rate * (seconds + 1) + a_batch
