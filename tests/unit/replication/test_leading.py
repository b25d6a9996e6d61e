"""A leader and its followers: what is committed, who is told, and how the ISR changes."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.flusher import Durability
from ottla.replication.lease import Lease
from tests.unit.log.samples import NOW_MS
from tests.unit.replication.leaders import EPOCH, LAG_MS, Leader
from tests.unit.replication.test_partition import Listener, seen

NOT_LEADER = ErrorCode.NOT_LEADER_OR_FOLLOWER


class Reader:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.told = 0

    def partition_changed(self, partition: object) -> None:
        self.told += 1


def test_who_waits_is_told_once_the_isr_has_the_record_and_no_sooner() -> None:
    leader, waiting = Leader([1, 2, 3], [1, 2, 3]), Listener()
    leader.append(2)
    assert not leader.partition.when_committed(2, waiting, "both")
    leader.fetch(2, 2)
    leader.fetch(3, 1)
    assert (waiting.told, leader.high_watermark) == ([], 1)
    leader.fetch(3, 2)
    assert (waiting.told, leader.high_watermark) == (["both"], 2)


def test_the_leaders_own_acknowledgement_is_what_it_has_flushed() -> None:
    leader = Leader([1, 2], [1, 2], durability=Durability.DISK)
    leader.append(2)
    leader.fetch(2, 2)
    assert leader.high_watermark == 0
    leader.partition.log.flush(NOW_MS)
    assert leader.high_watermark == 2


def test_consumers_see_what_is_committed_and_followers_the_whole_log() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append(1)
    leader.append(1)
    leader.fetch(2, 1)
    assert seen(leader.partition) == [0]
    found = leader.partition.read_as_leader(0, 1 << 20, at_least_one=True)
    assert found.size_bytes == leader.partition.log.size_bytes
    for region in found.regions:
        region.close()


def test_followers_are_told_of_appends_and_consumers_of_the_high_watermark() -> None:
    leader, consumer, follower = Leader([1, 2], [1, 2]), Reader(), Reader()
    leader.partition.add_reader(consumer)
    leader.partition.add_tail_reader(follower)
    leader.append(1)
    assert (consumer.told, follower.told) == (0, 1)
    leader.fetch(2, 1)
    assert (consumer.told, follower.told) == (1, 1)
    leader.partition.remove_reader(follower)
    leader.append(1)
    assert follower.told == 1
    leader.partition.add_tail_reader(follower)
    leader.partition.resign()
    assert (consumer.told, follower.told) == (2, 2)


def test_acks_all_is_refused_below_the_minimum_isr_and_acks_1_is_not_committed() -> None:
    leader = Leader([1, 2, 3], [1], min_insync_replicas=2)
    with pytest.raises(KafkaError) as refused:
        leader.append()
    assert refused.value.code is ErrorCode.NOT_ENOUGH_REPLICAS
    leader.append(acks=1)
    assert (leader.partition.log.log_end_offset, leader.high_watermark) == (1, 0)


def test_no_partition_is_asked_for_more_replicas_in_sync_than_it_has() -> None:
    leader, waiting = Leader([1, 2], [1, 2], min_insync_replicas=3), Listener()
    leader.append()
    assert not leader.partition.when_committed(1, waiting, "it")
    leader.fetch(2, 1)
    assert (leader.high_watermark, waiting.told) == (1, ["it"])


def test_what_was_appended_before_the_isr_shrank_waits_for_the_isr_to_grow() -> None:
    leader, waiting = Leader([1, 2], [1, 2], min_insync_replicas=2), Listener()
    leader.append()
    assert not leader.partition.when_committed(1, waiting, "it")
    leader.clock.advance(LAG_MS + 1)
    leader.partition.check_isr()
    leader.answer()
    assert (leader.partition.isr, leader.high_watermark, waiting.told) == ([1], 0, [])
    leader.fetch(2, 1)
    leader.answer()
    assert (leader.partition.isr, leader.high_watermark, waiting.told) == ([1, 2], 1, ["it"])


def test_what_is_committed_in_too_few_replicas_is_not_acknowledged() -> None:
    leader = Leader([1, 2], [1, 2], min_insync_replicas=2)
    leader.append()
    leader.fetch(2, 1)
    leader.partition.become_leader(EPOCH, 1, [1, 2], [1])
    with pytest.raises(KafkaError) as told:
        leader.partition.when_committed(1, Listener(), "it")
    assert told.value.code is ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND


def test_a_follower_that_catches_up_joins_and_counts_at_once() -> None:
    leader = Leader([1, 2], [1])
    leader.append(2)
    leader.fetch(2, 1)
    assert leader.asked.proposals == []
    leader.fetch(2, 2)
    assert leader.asked.last == [1, 2]
    leader.append()
    assert leader.high_watermark == 2, "it may be in the ISR already"
    leader.fetch(2, 3)
    assert len(leader.asked.proposals) == 1, "one at a time"
    leader.answer()
    assert (leader.partition.isr, leader.partition.partition_epoch) == ([1, 2], 1)
    assert leader.high_watermark == 3


def test_a_follower_that_stays_behind_leaves_and_the_high_watermark_moves_with_the_answer() -> None:
    """KAFKA-13091: with nothing appended any more, nobody else would move it."""
    leader, waiting = Leader([1, 2, 3], [1, 2, 3]), Listener()
    leader.append()
    leader.partition.when_committed(1, waiting, "it")
    leader.clock.advance(LAG_MS)
    leader.fetch(2, 1)
    leader.partition.check_isr()
    assert leader.asked.proposals == []
    leader.clock.advance(1)
    leader.partition.check_isr()
    assert (leader.asked.last, leader.high_watermark) == ([1, 2], 0)
    leader.answer()
    assert (leader.partition.isr, leader.high_watermark, waiting.told) == ([1, 2], 1, ["it"])


def test_a_session_that_says_nothing_of_a_quiet_partition_keeps_its_follower_in_sync() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append()
    leader.fetch(2, 1)
    leader.clock.advance(10 * LAG_MS)
    leader.partition.follower_was_quiet(2, leader.peers.now_ms())
    leader.append()
    leader.clock.advance(LAG_MS)
    leader.partition.check_isr()
    assert leader.asked.proposals == []


def test_a_refusal_without_a_doubt_takes_the_proposal_back() -> None:
    leader = Leader([1, 2], [1])
    leader.fetch(2, 0)
    proposal = leader.asked.proposals[-1]
    assert not leader.partition.isr_refused(proposal, ErrorCode.INELIGIBLE_REPLICA)
    leader.fetch(2, 0)
    assert len(leader.asked.proposals) == 2, "its next fetch is another occasion"


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NEW_LEADER_ELECTED,
    ],
)
def test_who_is_told_that_its_state_is_old_waits_for_the_newer_one(code: ErrorCode) -> None:
    leader = Leader([1, 2], [1])
    leader.append()
    leader.fetch(2, 1)
    assert not leader.partition.isr_refused(leader.asked.proposals[-1], code)
    leader.append()
    leader.fetch(2, 2)
    assert (len(leader.asked.proposals), leader.high_watermark) == (1, 2)
    leader.append()
    assert leader.high_watermark == 2, "it may have been let in"
    leader.partition.become_leader(EPOCH, 3, [1, 2], [1])
    leader.fetch(2, 3)
    assert leader.asked.proposals[-1].partition_epoch == 3


def test_any_other_error_is_asked_again() -> None:
    leader = Leader([1, 2], [1])
    leader.fetch(2, 0)
    assert leader.partition.isr_refused(leader.asked.proposals[-1], ErrorCode.UNKNOWN_SERVER_ERROR)


def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    leader = Leader([1, 2, 3], [1, 2])
    leader.fetch(3, 0)
    late = leader.asked.proposals[-1]
    leader.partition.become_leader(EPOCH + 1, 4, [1, 2, 3], [1, 2])
    leader.partition.isr_accepted(late, [1, 2, 3], EPOCH, 1)
    assert leader.partition.isr == [1, 2]
    assert not leader.partition.isr_refused(late, ErrorCode.UNKNOWN_SERVER_ERROR)
    leader.fetch(3, 0)
    leader.partition.isr_accepted(leader.asked.proposals[-1], [1, 2, 3], EPOCH, 9)
    assert leader.partition.isr == [1, 2], "it is of an earlier epoch"


def test_a_state_that_is_no_newer_takes_nothing_back() -> None:
    leader = Leader([1, 2], [1])
    leader.fetch(2, 0)
    leader.answer()
    leader.partition.become_leader(EPOCH, 0, [1, 2], [1])
    assert (leader.partition.isr, leader.partition.partition_epoch) == ([1, 2], 1)
    leader.partition.become_leader(EPOCH, 1, [1, 2, 3], [1])
    assert leader.partition.isr == [1, 2]
    leader.fetch(3, 0)
    assert leader.asked.last == [1, 2, 3], "who is assigned is heard all the same"


def test_a_state_that_is_older_changes_no_replicas_either() -> None:
    leader = Leader([1, 2, 3], [1, 2])
    leader.fetch(3, 0)
    leader.answer()
    leader.partition.become_leader(EPOCH, 0, [1, 2], [1, 2])
    assert (leader.partition.replicas, leader.partition.isr) == ([1, 2, 3], [1, 2, 3])
    leader.fetch(3, 0)


def test_who_is_no_follower_here_is_told_so() -> None:
    """Kafka's ``followerReplicaOrThrow``: who knows the epoch waits for the leader to hear of it, too."""
    leader = Leader([1, 2], [1, 2])
    for epoch, code in (
        (-1, NOT_LEADER),
        (EPOCH, ErrorCode.UNKNOWN_LEADER_EPOCH),
        (EPOCH - 1, ErrorCode.FENCED_LEADER_EPOCH),
        (EPOCH + 1, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ):
        with pytest.raises(KafkaError) as told:
            leader.partition.require_follower(9, epoch)
        assert told.value.code is code
    leader.partition.require_follower(2, EPOCH)
    with pytest.raises(KafkaError):
        leader.fetch(9, 0)


def test_a_fetch_of_an_earlier_life_is_refused() -> None:
    leader = Leader([1, 2], [1])
    leader.append(2)
    leader.fetch(2, 0, epoch=8)
    with pytest.raises(KafkaError) as told:
        leader.fetch(2, 2, epoch=7)
    assert told.value.code is NOT_LEADER
    assert leader.asked.proposals == []


def test_who_leads_on_in_the_next_epoch_keeps_who_waits() -> None:
    """Kafka's controller counts the epoch up when it takes a dead broker out of the ISR."""
    leader, waiting = Leader([1, 2, 3], [1, 2, 3]), Listener()
    leader.append()
    leader.fetch(2, 1)
    assert not leader.partition.when_committed(1, waiting, "it")
    leader.partition.become_leader(EPOCH + 1, 1, [1, 2, 3], [1, 2])
    assert waiting.told == []
    leader.fetch(2, 1)
    assert waiting.told == ["it"]


def test_who_may_have_missed_another_leader_fails_who_waits() -> None:
    leader, waiting = Leader([1, 2], [1, 2]), Listener()
    leader.append()
    assert not leader.partition.when_committed(1, waiting, "it")
    leader.partition.become_leader(EPOCH + 2, 2, [1, 2], [1, 2])
    assert waiting.told == [("it", NOT_LEADER)]


@pytest.mark.parametrize("is_told", [True, False])
def test_what_was_appended_before_another_leader_is_not_waited_for(is_told: bool) -> None:
    """Its offsets may have been given to other records since."""
    leader = Leader([1, 2], [1, 2])
    leader.append()
    leader.partition.become_leader(EPOCH + 1, 1, [1, 2], [1, 2])  # it led on
    assert not leader.partition.when_committed(1, Listener(), "it", leader_epoch=EPOCH)
    if is_told:
        leader.partition.follow(2, EPOCH + 2, 2, [1, 2], [1, 2])
    leader.partition.become_leader(EPOCH + 3, 3, [1, 2], [1, 2])
    with pytest.raises(KafkaError) as told:
        leader.partition.when_committed(1, Listener(), "it", leader_epoch=EPOCH + 1)
    assert told.value.code is NOT_LEADER
    assert not leader.partition.when_committed(1, Listener(), "it", leader_epoch=EPOCH + 3)


def test_acknowledgements_of_an_earlier_epoch_move_nothing() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append(3)
    leader.fetch(2, 1)
    leader.partition.become_leader(EPOCH + 1, 1, [1, 2], [1, 2])
    leader.append()
    leader.partition.check_isr()
    assert leader.high_watermark == 1
    assert not leader.partition.knows_its_latest_offset
    leader.fetch(2, 3)
    assert leader.high_watermark == 3
    assert leader.partition.knows_its_latest_offset


def test_nothing_is_committed_by_followers_while_the_lease_is_over() -> None:
    lease, waiting = Lease(), Listener()
    leader = Leader([1, 2], [1, 2], lease=lease)
    leader.append(2)
    leader.fetch(2, 1)
    assert not leader.partition.when_committed(2, waiting, "it")
    lease.revoke()
    leader.fetch(2, 2)
    assert (leader.high_watermark, waiting.told) == (1, [])
    with pytest.raises(KafkaError):
        leader.partition.when_committed(1, waiting, "the first")
    lease.renew_from(lambda: float("inf"))
    leader.partition.lease_renewed()
    assert (leader.high_watermark, waiting.told) == (2, ["it"])


def test_a_replica_that_is_waited_for_in_vain_is_not_waited_for_for_ever() -> None:
    """One that caught up and went away before it joined: with nothing appended, nobody else would notice."""
    leader = Leader([1, 2, 3], [1, 2])
    leader.dead.add(3)
    leader.fetch(3, 0)
    leader.dead.remove(3)
    leader.append()
    leader.fetch(2, 1)
    assert leader.high_watermark == 0
    leader.clock.advance(LAG_MS + 1)
    leader.partition.check_isr()
    assert leader.high_watermark == 1


def test_who_may_not_join_holds_up_nothing_once_the_controller_has_said_so() -> None:
    """A broker that stops goes on fetching for a moment, and then no more."""
    leader, waiting = Leader([1, 2, 3], [1, 2]), Listener()
    leader.fetch(3, 0)
    leader.append()
    assert not leader.partition.when_committed(1, waiting, "it")
    leader.fetch(2, 1)
    assert waiting.told == []
    leader.partition.isr_refused(leader.asked.proposals[-1], ErrorCode.INELIGIBLE_REPLICA)
    assert (leader.high_watermark, waiting.told) == (1, ["it"])


def test_who_has_left_the_isr_is_waited_for_again_once_it_fetches() -> None:
    leader = Leader([1, 2, 3], [1, 2, 3])
    leader.fetch(3, 0)
    leader.partition.become_leader(EPOCH, 1, [1, 2, 3], [1, 2])
    leader.append()
    leader.fetch(2, 1)
    assert leader.high_watermark == 1
    leader.dead.add(3)
    leader.fetch(3, 1)
    leader.dead.remove(3)
    leader.append()
    leader.fetch(2, 2)
    assert leader.high_watermark == 1


def test_a_partition_that_has_one_replica_left_counts_no_followers() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append()
    leader.partition.become_leader(EPOCH + 1, 3, [1], [1])
    assert leader.partition.in_sync is None
    assert leader.high_watermark == 1


def test_who_may_lead_no_more_sends_no_consumer_back_from_behind_its_end() -> None:
    lease = Lease()
    leader = Leader([1, 2], [1, 2], lease=lease)
    leader.append(1)
    leader.fetch(2, 1)
    for code, change in (
        (ErrorCode.OFFSET_OUT_OF_RANGE, lambda: None),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, lease.revoke),
    ):
        change()
        assert leader.partition.knows_its_latest_offset == (code is ErrorCode.OFFSET_OUT_OF_RANGE)
        with pytest.raises(KafkaError) as refused:
            leader.partition.read(5, 1_000, at_least_one=True)
        assert refused.value.code is code
        assert leader.partition.read(1, 1_000, at_least_one=True) is not None
