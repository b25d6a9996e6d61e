"""Replica assignments, with the examples of Kafka's own documentation and tests."""

from __future__ import annotations

from collections import Counter

import pytest

from ottla.controller.assignment import BrokerRack, alternate_racks, assign_replicas
from ottla.errors import ErrorCode, KafkaError

RACKS = {0: "rack1", 1: "rack3", 2: "rack3", 3: "rack2", 4: "rack2", 5: "rack1"}


def plain(count: int) -> list[BrokerRack]:
    return [BrokerRack(broker_id) for broker_id in range(count)]


def racked(racks: dict[int, str]) -> list[BrokerRack]:
    return [BrokerRack(broker_id, rack) for broker_id, rack in racks.items()]


def test_replicas_are_spread_as_in_kafkas_table() -> None:
    # AdminRackAwareTest / AdminZkClientTest.testReplicaAssignment: five brokers, ten partitions.
    assert assign_replicas(plain(5), 10, 3, start_index=0, shift=0) == {
        0: (0, 1, 2),
        1: (1, 2, 3),
        2: (2, 3, 4),
        3: (3, 4, 0),
        4: (4, 0, 1),
        5: (0, 2, 3),
        6: (1, 3, 4),
        7: (2, 4, 0),
        8: (3, 0, 1),
        9: (4, 1, 2),
    }


def test_brokers_alternate_by_rack() -> None:
    assert alternate_racks(RACKS) == [0, 3, 1, 5, 4, 2]
    nine = {0: "1", 1: "1", 2: "1", 3: "2", 4: "2", 5: "2", 6: "3", 7: "3", 8: "3"}
    assert alternate_racks(nine) == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert alternate_racks({0: "1", 1: "2", 2: "1", 3: "1"}) == [0, 1, 2, 3]


def test_rack_aware_assignment_is_kafkas_example() -> None:
    assert assign_replicas(racked(RACKS), 7, 3, start_index=0, shift=0) == {
        0: (0, 3, 1),
        1: (3, 1, 5),
        2: (1, 5, 4),
        3: (5, 4, 2),
        4: (4, 2, 0),
        5: (2, 0, 3),
        6: (0, 4, 2),
    }


def test_each_rack_has_a_replica_before_one_has_two() -> None:
    for start in range(6):
        for replication_factor in (2, 3, 4, 6):
            assignment = assign_replicas(
                racked(RACKS), 12, replication_factor, start_index=start, shift=start
            )
            for replicas in assignment.values():
                assert len(set(replicas)) == replication_factor
                racks = Counter(RACKS[replica] for replica in replicas)
                assert len(racks) == min(3, replication_factor)


def test_leaders_and_replicas_are_even() -> None:
    for brokers in (plain(6), racked(RACKS)):
        assignment = assign_replicas(brokers, 12, 3, start_index=4, shift=2)
        leaders = Counter(replicas[0] for replicas in assignment.values())
        assert set(leaders.values()) == {2}
        replicas = Counter(replica for replicas in assignment.values() for replica in replicas)
        assert set(replicas.values()) == {6}


def test_racks_count_only_where_every_broker_has_one() -> None:
    some = [BrokerRack(0, "a"), BrokerRack(1), BrokerRack(2, "b")]
    assert assign_replicas(some, 3, 2, start_index=0, shift=0) == assign_replicas(
        plain(3), 3, 2, start_index=0, shift=0
    )


def test_single_broker_takes_everything() -> None:
    assignment = assign_replicas(plain(1), 3, 1, start_index=0, shift=0)
    assert assignment == {0: (0,), 1: (0,), 2: (0,)}


def test_added_partitions_go_on_where_the_others_ended() -> None:
    whole = assign_replicas(plain(5), 10, 3, start_index=0, shift=0)
    added = assign_replicas(plain(5), 6, 3, start_index=0, shift=0, first_partition=4)
    assert list(added) == list(range(4, 10))
    assert [replicas[0] for replicas in added.values()] == [whole[p][0] for p in range(4, 10)]


@pytest.mark.parametrize(
    ("partitions", "replication_factor", "code"),
    [
        (0, 1, ErrorCode.INVALID_PARTITIONS),
        (-5, 1, ErrorCode.INVALID_PARTITIONS),
        (1, 0, ErrorCode.INVALID_REPLICATION_FACTOR),
        (1, 4, ErrorCode.INVALID_REPLICATION_FACTOR),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    partitions: int, replication_factor: int, code: ErrorCode
) -> None:
    with pytest.raises(KafkaError) as raised:
        assign_replicas(plain(3), partitions, replication_factor, start_index=0, shift=0)
    assert raised.value.code is code
