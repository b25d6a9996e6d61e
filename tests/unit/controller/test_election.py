"""Elections, as in Kafka's ``PartitionLeaderElectionAlgorithmsTest``."""

from __future__ import annotations

import itertools

from ottla.controller.election import (
    leader_for_new,
    leader_for_offline,
    leader_for_reassignment,
    leader_for_shutdown,
    preferred_leader,
)
from ottla.coordination.znodes import LeaderAndIsr


def test_new_partition_is_led_by_its_first_live_replica_with_the_live_ones_in_sync() -> None:
    assert leader_for_new((3, 1, 2), {1, 2, 7}, 5) == LeaderAndIsr(1, (1, 2), 0, 5)
    assert leader_for_new((3, 1, 2), {1, 2, 3}, 5) == LeaderAndIsr(3, (3, 1, 2), 0, 5)
    assert leader_for_new((3, 1, 2), {9}, 5) is None


def test_successor_is_the_first_live_replica_in_the_isr() -> None:
    current = LeaderAndIsr(1, (1, 3, 2), leader_epoch=7, controller_epoch=2, partition_epoch=11)
    elected = leader_for_offline((1, 2, 3), current, {2, 3}, 4, unclean=False)
    assert elected == LeaderAndIsr(2, (3, 2), 8, 4, 11)


def test_nobody_is_elected_from_outside_the_isr_unless_unclean() -> None:
    current = LeaderAndIsr(1, (1,), leader_epoch=7, partition_epoch=11)
    assert leader_for_offline((1, 2, 3), current, {2, 3}, 4, unclean=False) is None
    assert leader_for_offline((1, 2, 3), current, {3}, 4, unclean=True) == LeaderAndIsr(
        3, (3,), 8, 4, 11, leader_recovery_state=1
    )
    assert leader_for_offline((1, 2, 3), current, set(), 4, unclean=True) is None


def test_who_may_have_lost_records_is_elected_uncleanly_only_or_as_the_only_replica() -> None:
    current = LeaderAndIsr(1, (1, 2, 3), leader_epoch=7)
    elected = leader_for_offline((1, 2, 3), current, {2, 3}, 4, unclean=False, lossy={2})
    assert elected is not None
    assert (elected.leader, elected.isr) == (3, (3,))
    assert leader_for_offline((1, 2), current, {2}, 4, unclean=False, lossy={2}) is None
    forced = leader_for_offline((1, 2), current, {2}, 4, unclean=True, lossy={2})
    assert forced is not None
    assert (forced.leader, forced.isr, forced.leader_recovery_state) == (2, (2,), 1)
    alone = leader_for_offline((2,), LeaderAndIsr(-1, (2,)), {2}, 4, unclean=False, lossy={2})
    assert alone is not None
    assert (alone.leader, alone.leader_recovery_state) == (2, 0)


def test_clean_election_keeps_the_recovery_that_is_under_way() -> None:
    current = LeaderAndIsr(1, (1, 2), 7, leader_recovery_state=1)
    elected = leader_for_offline((1, 2), current, {2}, 4, unclean=True)
    assert elected is not None
    assert elected.leader_recovery_state == 1


def test_every_election_raises_the_epoch_and_leads_from_within_the_isr() -> None:
    brokers = (1, 2, 3)
    subsets = [subset for size in range(4) for subset in itertools.combinations(brokers, size)]
    for assignment in itertools.permutations(brokers):
        for isr, live, unclean in itertools.product(subsets[1:], subsets, (False, True)):
            current = LeaderAndIsr(isr[0], isr, leader_epoch=3)
            elected = leader_for_offline(assignment, current, live, 9, unclean=unclean)
            if elected is None:
                assert not set(live) & set(isr if not unclean else brokers)
                continue
            assert elected.leader_epoch == 4
            assert elected.leader in elected.isr
            assert set(elected.isr) <= set(live)
            if set(live) & set(isr):
                assert set(elected.isr) <= set(isr)


def test_no_leader_is_moved_to_a_replica_outside_the_isr_or_under_the_same_epoch() -> None:
    """Preferred replicas, reassignments, brokers that stop: nobody is dead, and nothing may be lost."""
    brokers = (1, 2, 3)
    subsets = [subset for size in range(4) for subset in itertools.combinations(brokers, size)]
    for assignment in itertools.permutations(brokers):
        for isr, live in itertools.product(subsets[1:], subsets):
            current = LeaderAndIsr(isr[0], isr, leader_epoch=3)
            moved = {
                "preferred": preferred_leader(assignment, current, live, 9),
                "reassignment": leader_for_reassignment(assignment, current, live, 9),
                "shutdown": leader_for_shutdown(assignment, current, live, isr[:1], 9),
            }
            for why, elected in moved.items():
                if elected is not None:
                    assert elected.leader_epoch == 4, why
                    assert elected.leader in set(live) & set(isr) & set(elected.isr), why
                    assert set(elected.isr) <= set(isr), why
