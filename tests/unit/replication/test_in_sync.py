"""Who is in sync, who falls out, who may join, and what is committed: Kafka's rules, one by one."""

from __future__ import annotations

import pytest

from ottla.replication.in_sync import InSync, Proposal, StaleFetch

LAG_MS = 30_000
START_MS = 1_000_000


class Leader:
    """Broker 1, leading; its log is flushed as it is written unless a test says otherwise."""

    def __init__(self, replicas: list[int], isr: list[int], *, end: int = 0) -> None:
        self.dead: set[int] = set()
        self.in_sync = InSync(1, lambda: LAG_MS, lambda replica: replica not in self.dead)
        self.now_ms = START_MS
        self.end = self.flushed = self.epoch_start = end
        self.high_watermark = 0
        self.minimum_isr = 1
        self.in_sync.assign(replicas)
        self.in_sync.commit(isr)
        self.in_sync.begin_epoch(self.now_ms)

    def append(self, count: int = 1, *, flush: bool = True) -> None:
        self.end += count
        if flush:
            self.flushed = self.end
        self.advance()

    def fetch(self, replica: int, offset: int, *, epoch: int = 7, log_start: int = 0) -> None:
        follower = self.in_sync.get(replica)
        assert follower is not None
        follower.fetched(epoch, offset, log_start, self.end, self.now_ms)
        self.advance()

    def advance(self) -> None:
        found = self.in_sync.high_watermark(self.minimum_isr, self.flushed, self.end, self.now_ms)
        self.high_watermark = max(self.high_watermark, found)

    def may_join(self, replica: int) -> bool:
        return self.in_sync.may_join(replica, self.high_watermark, self.epoch_start)

    def out(self) -> set[int]:
        return set(self.in_sync.fallen_out(self.end, self.now_ms))

    def join(self, replica: int) -> Proposal:
        return self.in_sync.propose_join(replica, 0, 0)

    def leave(self, *replicas: int) -> Proposal:
        return self.in_sync.propose_leave(frozenset(replicas), 0, 0)


def test_a_record_is_committed_once_every_member_of_the_isr_has_it() -> None:
    leader = Leader([1, 2, 3], [1, 2, 3])
    leader.append(5)
    leader.fetch(2, 5)
    assert leader.high_watermark == 0
    leader.fetch(3, 4)
    assert leader.high_watermark == 4
    leader.fetch(3, 5)
    assert leader.high_watermark == 5


def test_what_the_leader_has_not_flushed_is_not_committed() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append(5, flush=False)
    leader.fetch(2, 5)
    assert leader.high_watermark == 0
    leader.flushed = 3
    leader.advance()
    assert leader.high_watermark == 3


def test_a_replica_outside_the_isr_holds_nothing_up_unless_it_is_about_to_join() -> None:
    leader = Leader([1, 2, 3], [1, 2])
    leader.append(5)
    leader.fetch(2, 5)
    assert leader.high_watermark == 5, "it has never fetched"
    leader.fetch(3, 5)  # caught up: it is about to join, if its broker is alive
    leader.append(5)
    leader.fetch(2, 10)
    assert leader.high_watermark == 5
    leader.dead.add(3)
    leader.advance()
    assert leader.high_watermark == 10


def test_one_that_caught_up_long_ago_is_not_waited_for() -> None:
    leader = Leader([1, 2, 3], [1, 2])
    leader.fetch(3, 0)
    leader.append(5)
    leader.fetch(2, 5)
    assert leader.high_watermark == 0
    leader.now_ms += LAG_MS + 1
    leader.advance()
    assert leader.high_watermark == 5


def test_nothing_is_committed_while_the_isr_is_smaller_than_asked_for() -> None:
    leader = Leader([1, 2, 3], [1])
    leader.minimum_isr = 2
    leader.append(5)
    assert leader.high_watermark == 0
    leader.in_sync.assign([1, 2, 3])
    leader.in_sync.commit([1, 2])
    leader.advance()
    assert leader.high_watermark == 0, "who has joined has not fetched yet"
    leader.fetch(2, 5)
    assert leader.high_watermark == 5


def test_acknowledgements_of_an_earlier_epoch_do_not_count() -> None:
    """KIP-320: in between the follower may have cut its log behind another leader."""
    leader = Leader([1, 2], [1, 2])
    leader.append(5, flush=False)
    leader.fetch(2, 5)
    leader.flushed = 3
    leader.advance()
    leader.in_sync.begin_epoch(leader.now_ms)
    leader.flushed = 5
    leader.advance()
    assert leader.high_watermark == 3
    leader.fetch(2, 5)
    assert leader.high_watermark == 5


def test_who_is_proposed_to_join_counts_at_once() -> None:
    """KIP-497: the controller may have let it in before the leader hears of it."""
    leader = Leader([1, 2], [1])
    leader.append(5)
    leader.fetch(2, 5)
    leader.join(2)
    leader.now_ms += LAG_MS + 1
    leader.append(5)
    assert leader.high_watermark == 5
    assert leader.in_sync.maximal_isr == [1, 2]
    assert leader.in_sync.isr == [1]


def test_who_is_proposed_to_leave_counts_until_the_controller_has_answered() -> None:
    """KAFKA-13091: the high watermark moves with the answer, not before it and not at the next append."""
    leader = Leader([1, 2], [1, 2])
    leader.fetch(2, 0)
    leader.append(5)
    leader.now_ms += LAG_MS + 1
    assert leader.out() == {2}
    leader.leave(2)
    leader.advance()
    assert leader.high_watermark == 0
    leader.in_sync.commit([1])
    leader.advance()
    assert leader.high_watermark == 5


def test_a_proposal_that_was_refused_is_taken_back() -> None:
    leader = Leader([1, 2], [1])
    leader.append(5)
    leader.fetch(2, 5)
    assert leader.may_join(2)
    proposal = leader.join(2)
    assert not leader.may_join(2)
    leader.in_sync.refused(proposal)
    assert leader.in_sync.maximal_isr == [1]
    assert leader.may_join(2)


def test_a_newer_state_overtakes_what_was_proposed() -> None:
    leader = Leader([1, 2, 3], [1, 2])
    leader.fetch(3, 0)
    leader.join(3)
    leader.in_sync.assign([1, 2, 3])
    leader.in_sync.commit([1])
    assert leader.in_sync.pending is None
    assert leader.in_sync.maximal_isr == [1]


def test_a_replica_joins_at_the_high_watermark() -> None:
    leader = Leader([1, 2], [1])
    leader.append(5)
    leader.fetch(2, 4)
    assert not leader.may_join(2)
    leader.fetch(2, 5)
    assert leader.may_join(2)
    leader.dead.add(2)
    assert not leader.may_join(2)


def test_a_replica_joins_past_the_start_of_the_leaders_epoch_only() -> None:
    """KAFKA-7128: the high watermark may lag behind what is committed when a leader begins."""
    leader = Leader([1, 2, 3], [1, 2], end=10)
    leader.high_watermark = 4
    leader.fetch(3, 9)
    assert not leader.may_join(3)
    leader.fetch(3, 10)
    assert leader.may_join(3)


def test_a_replica_that_has_not_fetched_in_this_epoch_does_not_join() -> None:
    leader = Leader([1, 2], [1])
    assert not leader.may_join(2)
    leader.fetch(2, 0)
    assert leader.may_join(2)
    leader.in_sync.begin_epoch(leader.now_ms)
    assert not leader.may_join(2)


def test_a_replica_that_is_always_a_little_behind_keeps_its_place() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.fetch(2, 0)
    for _ in range(10):
        behind = leader.end
        leader.append(3)
        leader.now_ms += LAG_MS // 2
        assert leader.out() == set()
        leader.fetch(2, behind)  # all that there was when it fetched before
    leader.now_ms += LAG_MS + 1
    assert leader.out() == {2}


def test_a_replica_that_fetches_and_never_arrives_falls_out() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append(100)
    for offset in range(30):
        leader.fetch(2, offset)
        leader.append(2)
        leader.now_ms += LAG_MS // 20
    assert leader.out() == {2}


def test_a_quiet_partition_loses_nobody() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append(5)
    leader.fetch(2, 5)
    leader.now_ms += 100 * LAG_MS
    assert leader.out() == set()


def test_a_member_has_the_lags_time_to_fetch_from_a_new_leader() -> None:
    leader = Leader([1, 2, 3], [1, 2], end=5)
    leader.now_ms += LAG_MS
    assert leader.out() == set()
    leader.now_ms += 1
    assert leader.out() == {2}


def test_a_member_that_is_not_assigned_any_more_falls_out() -> None:
    leader = Leader([1, 2, 3], [1, 2, 3])
    leader.in_sync.assign([1, 2])
    leader.in_sync.commit([1, 2, 3])
    assert leader.out() == {3}


def test_nobody_falls_out_while_a_proposal_is_pending() -> None:
    leader = Leader([1, 2, 3], [1, 2])
    leader.fetch(3, 0)
    leader.append(1)
    leader.join(3)
    leader.now_ms += LAG_MS + 1
    assert leader.out() == set()


def test_fetches_of_an_earlier_life_change_nothing() -> None:
    """KAFKA-15221 and KIP-903: they may still be on their way when the broker, emptied, is back."""
    leader = Leader([1, 2], [1])
    leader.append(5)
    leader.fetch(2, 0, epoch=8)
    with pytest.raises(StaleFetch):
        leader.fetch(2, 5, epoch=7)
    assert not leader.may_join(2)
    leader.in_sync.begin_epoch(leader.now_ms)
    with pytest.raises(StaleFetch):
        leader.fetch(2, 5, epoch=7)
    leader.fetch(2, 5, epoch=8)
    assert leader.may_join(2)
    assert leader.in_sync.epochs_of([1, 2], 3) == [(1, 3), (2, 8)]


def test_a_fetch_that_tells_no_broker_epoch_counts() -> None:
    leader = Leader([1, 2], [1])
    leader.fetch(2, 0, epoch=-1)
    assert leader.may_join(2)
    assert leader.in_sync.epochs_of([1, 2], 3) == [(1, 3), (2, -1)]


def test_the_low_watermark_is_that_of_the_live_replicas() -> None:
    leader = Leader([1, 2, 3], [1, 2, 3], end=10)
    assert leader.in_sync.low_watermark(6) == -1
    leader.fetch(2, 10, log_start=6)
    leader.fetch(3, 10, log_start=2)
    assert leader.in_sync.low_watermark(6) == 2
    leader.dead.add(3)
    assert leader.in_sync.low_watermark(6) == 6
