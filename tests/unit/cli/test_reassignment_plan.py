"""Plans of reassignments: read, written, proposed and throttled."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from ottla.cli.failures import UsageError
from ottla.cli.reassignment_plan import (
    FOLLOWER_THROTTLED,
    LEADER_THROTTLED,
    Assignment,
    moving_brokers,
    parse_brokers,
    plan_document,
    propose,
    read_plan,
    throttled_replicas,
)


def test_a_plan_is_read_as_it_is_written() -> None:
    assignment: Assignment = {("b", 0): [3, 1], ("a", 10): [1], ("a", 2): [2, 3, 1]}
    plan = read_plan(json.dumps(plan_document(assignment)))
    assert plan.replicas == assignment
    assert plan.log_dirs == {}


def test_log_directories_of_a_plan_are_read_but_for_any() -> None:
    item = {"topic": "t", "partition": 0, "replicas": [1, 2], "log_dirs": ["any", "/disk2"]}
    plan = read_plan(json.dumps({"version": 1, "partitions": [item]}))
    assert plan.log_dirs == {("t", 0, 2): "/disk2"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 2, "partitions": []}',
        '{"version": 1, "partitions": []}',
        '{"version": 1, "partitions": [{"topic": "t", "partition": 0}]}',
        '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": []}]}',
        '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [1, 1]}]}',
        '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": ["x"]}]}',
        '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [1], "log_dirs": []},'
        ' {"topic": "t", "partition": 0, "replicas": [2]}]}',
        '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [1],'
        ' "log_dirs": ["a", "b"]}]}',
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_plan(text)


def test_replicas_that_may_stay_do_and_a_broker_that_goes_is_replaced() -> None:
    current: Assignment = {("t", n): [1 + (n + i) % 3 for i in range(2)] for n in range(6)}
    wanted = propose(current, [1, 2, 4], {})
    for partition, replicas in wanted.items():
        assert set(replicas) >= set(current[partition]) - {3}
        assert 3 not in replicas
        assert len(set(replicas)) == 2


def test_a_new_broker_gets_its_share_and_nothing_else_moves() -> None:
    current: Assignment = {("t", n): [1 + n % 3] for n in range(12)}
    wanted = propose(current, [1, 2, 3, 4], {})
    assert Counter(replicas[0] for replicas in wanted.values()) == {1: 3, 2: 3, 3: 3, 4: 3}
    assert sum(wanted[partition] != current[partition] for partition in current) == 3


def test_what_is_level_already_is_left_as_it_is() -> None:
    current: Assignment = {("t", n): [1 + (n + i) % 3 for i in range(3)] for n in range(9)}
    assert propose(current, [1, 2, 3], {}) == current


def test_more_replicas_go_into_other_racks() -> None:
    racks = {1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c"}
    current: Assignment = {("t", n): [1 + n % 6] for n in range(12)}
    wanted = propose(current, list(racks), racks, 3)
    for replicas in wanted.values():
        assert {racks[broker] for broker in replicas} == {"a", "b", "c"}
    load = Counter(broker for replicas in wanted.values() for broker in replicas)
    assert set(load.values()) == {6}
    assert set(Counter(replicas[0] for replicas in wanted.values()).values()) == {2}


def test_more_replicas_than_brokers_are_refused() -> None:
    with pytest.raises(UsageError, match="2 brokers cannot hold 3 replicas of t:0"):
        propose({("t", 0): [1, 2, 3]}, [1, 2], {})


@pytest.mark.parametrize("seed", range(20))
def test_every_plan_is_valid_and_level(seed: int) -> None:
    choose = random.Random(seed)
    brokers = list(range(1, choose.randint(2, 7)))
    current: Assignment = {
        ("t", n): choose.sample(range(1, 9), choose.randint(1, len(brokers)))
        for n in range(choose.randint(1, 40))
    }
    wanted = propose(current, brokers, {})
    assert wanted.keys() == current.keys()
    for partition, replicas in wanted.items():
        assert len(set(replicas)) == len(replicas) == len(current[partition])
        assert set(replicas) <= set(brokers)
    load = Counter(dict.fromkeys(brokers, 0))
    load.update(broker for replicas in wanted.values() for broker in replicas)
    assert max(load.values()) - min(load.values()) <= 1


def test_a_throttle_holds_back_sources_and_those_who_come_new() -> None:
    current: Assignment = {("t", 0): [1, 2], ("t", 1): [2, 3], ("u", 0): [1]}
    wanted: Assignment = {("t", 0): [2, 3], ("t", 1): [3, 2], ("u", 0): [4]}
    assert throttled_replicas(current, wanted) == {
        "t": {LEADER_THROTTLED: "0:1,0:2", FOLLOWER_THROTTLED: "0:3"},
        "u": {LEADER_THROTTLED: "0:1", FOLLOWER_THROTTLED: "0:4"},
    }
    assert moving_brokers(current, wanted) == [1, 2, 3, 4]
    assert moving_brokers(current, {("t", 1): [3, 2]}) == []


@pytest.mark.parametrize("text", ["", "a", "1,,x", "1,1"])
def test_brokers_are_different_numbers(text: str) -> None:
    with pytest.raises(UsageError):
        parse_brokers(text)
    assert parse_brokers("3, 1,2") == [3, 1, 2]
