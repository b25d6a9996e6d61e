"""The assignors give what Java's give, and read and write the same user data."""

from __future__ import annotations

import random
import struct

import pytest

from ottla.client.consumer.assignors import Assignor, MemberSubscription, assignor_named
from ottla.client.consumer.assignors.assignor import Assignment
from ottla.client.consumer.assignors.sticky import (
    CooperativeStickyAssignor,
    StickyAssignor,
    decode_sticky_user_data,
    encode_sticky_user_data,
)
from ottla.client.types import TopicPartition

Members = dict[str, MemberSubscription]


def tps(*names: str) -> list[TopicPartition]:
    return [TopicPartition(topic, int(p)) for topic, p in (n.rsplit("-", 1) for n in names)]


def members(**topics: str) -> Members:
    return {member: MemberSubscription(wanted.split()) for member, wanted in topics.items()}


def counts(assignment: Assignment) -> list[int]:
    return sorted(len(partitions) for partitions in assignment.values())


def check_valid(assignment: Assignment, subscribed: Members, partitions: dict[str, int]) -> None:
    given = [p for mine in assignment.values() for p in mine]
    assert len(given) == len(set(given))
    read = {t for m in subscribed.values() for t in m.topics}
    assert set(given) == {
        TopicPartition(t, p) for t in read & partitions.keys() for p in range(partitions[t])
    }
    for member, mine in assignment.items():
        assert all(p.topic in subscribed[member].topics for p in mine)


def test_range_gives_the_first_members_one_more() -> None:
    got = assignor_named("range").assign({"t": 7}, members(a="t", b="t", c="t"))
    assert got == {"a": tps("t-0", "t-1", "t-2"), "b": tps("t-3", "t-4"), "c": tps("t-5", "t-6")}


def test_range_gives_equal_topics_alike() -> None:
    got = assignor_named("range").assign({"t1": 3, "t2": 3}, members(a="t1 t2", b="t1 t2"))
    assert got["a"] == tps("t1-0", "t1-1", "t2-0", "t2-1")
    assert got["b"] == tps("t1-2", "t2-2")


def test_range_leaves_out_those_who_do_not_subscribe() -> None:
    got = assignor_named("range").assign({"t1": 2, "t2": 2}, members(a="t1", b="t1 t2", c="t1"))
    assert got == {"a": tps("t1-0"), "b": tps("t1-1", "t2-0", "t2-1"), "c": []}


def test_static_members_come_first_in_order_of_their_instance_ids() -> None:
    static = {
        "z": MemberSubscription(["t"], group_instance_id="1"),
        "a": MemberSubscription(["t"], group_instance_id="2"),
        "b": MemberSubscription(["t"]),
    }
    for name in ("range", "roundrobin"):
        got = assignor_named(name).assign({"t": 3}, static)
        assert got == {"z": tps("t-0"), "a": tps("t-1"), "b": tps("t-2")}


def test_topics_that_do_not_exist_are_left_out() -> None:
    for name in ("range", "roundrobin", "sticky", "cooperative-sticky"):
        assert assignor_named(name).assign({}, members(a="nowhere", b="nowhere")) == {
            "a": [],
            "b": [],
        }


def test_round_robin_goes_on_over_topics() -> None:
    got = assignor_named("roundrobin").assign({"t1": 3, "t2": 3}, members(a="t1 t2", b="t1 t2"))
    assert got == {"a": tps("t1-0", "t1-2", "t2-1"), "b": tps("t1-1", "t2-0", "t2-2")}


def test_round_robin_skips_members_of_other_topics() -> None:
    got = assignor_named("roundrobin").assign(
        {"t1": 1, "t2": 2, "t3": 3}, members(a="t1", b="t1 t2", c="t1 t2 t3")
    )
    assert got == {"a": tps("t1-0"), "b": tps("t2-0"), "c": tps("t2-1", "t3-0", "t3-1", "t3-2")}


@pytest.mark.parametrize("name", ["sticky", "cooperative-sticky"])
def test_first_sticky_assignment_goes_round(name: str) -> None:
    got = assignor_named(name).assign({"t1": 3, "t2": 3}, members(a="t1 t2", b="t1 t2"))
    assert got == {"a": tps("t1-0", "t1-2", "t2-1"), "b": tps("t1-1", "t2-0", "t2-2")}


def rejoin(assignor: Assignor, subscribed: Members, before: Assignment, generation: int) -> Members:
    """The members as they would join again after ``before``."""
    sticky = isinstance(assignor, StickyAssignor)
    return {
        member: subscription._replace(
            user_data=encode_sticky_user_data(before[member], generation)
            if sticky and member in before
            else None,
            owned_partitions=[] if sticky else before.get(member, []),
            generation_id=generation if not sticky and member in before else -1,
        )
        for member, subscription in subscribed.items()
    }


def settle(
    assignor: Assignor, subscribed: Members, before: Assignment, topics: dict[str, int]
) -> Assignment:
    """The assignment once cooperative members have given up what they must."""
    for generation in range(1, 4):
        now = assignor.assign(topics, rejoin(assignor, subscribed, before, generation))
        if not assignor.cooperative or now == before:
            return now
        for member, owned in before.items():
            if member in now:
                kept = set(now[member])
                before = {**before, member: [p for p in owned if p in kept]}
        again = assignor.assign(topics, rejoin(assignor, subscribed, now, generation + 1))
        if {m: set(p) for m, p in again.items()} == {m: set(p) for m, p in now.items()}:
            return again
        before = now
    return now


@pytest.mark.parametrize("name", ["sticky", "cooperative-sticky"])
def test_member_that_leaves_costs_only_its_own_partitions(name: str) -> None:
    assignor = assignor_named(name)
    three = members(a="t", b="t", c="t")
    first = assignor.assign({"t": 9}, three)
    rest = {m: s for m, s in three.items() if m != "b"}
    second = settle(assignor, rest, {m: first[m] for m in rest}, {"t": 9})
    assert set(first["a"]) < set(second["a"])
    assert set(first["c"]) < set(second["c"])
    assert counts(second) == [4, 5]
    check_valid(second, rest, {"t": 9})


@pytest.mark.parametrize("name", ["sticky", "cooperative-sticky"])
def test_member_that_comes_takes_only_what_balance_asks(name: str) -> None:
    assignor = assignor_named(name)
    first = assignor.assign({"t": 6}, members(a="t", b="t"))
    three = members(a="t", b="t", c="t")
    second = settle(assignor, three, first, {"t": 6})
    assert set(second["a"]) < set(first["a"])
    assert set(second["b"]) < set(first["b"])
    assert counts(second) == [2, 2, 2]


def test_cooperative_assignment_first_only_takes_and_gives_in_the_next_generation() -> None:
    assignor = CooperativeStickyAssignor()
    first = assignor.assign({"t": 4}, members(a="t"))
    two = members(a="t", b="t")
    second = assignor.assign({"t": 4}, rejoin(assignor, two, first, 1))
    assert len(second["a"]) == 2
    assert second["b"] == []
    third = assignor.assign({"t": 4}, rejoin(assignor, two, second, 2))
    assert set(third["a"]) == set(second["a"])
    assert set(third["b"]) == set(first["a"]) - set(second["a"])


def test_cooperative_assignment_never_gives_what_another_still_owns_with_unequal_topics() -> None:
    assignor = CooperativeStickyAssignor()
    owned = members(a="t1 t2", b="t1")
    joined = {
        "a": owned["a"]._replace(
            owned_partitions=tps("t1-0", "t1-1", "t1-2", "t1-3", "t2-0"), generation_id=3
        ),
        "b": owned["b"]._replace(generation_id=-1),
    }
    got = assignor.assign({"t1": 4, "t2": 1}, joined)
    assert got["b"] == []
    assert set(got["a"]) < set(joined["a"].owned_partitions)


def test_cooperative_user_data_is_the_generation() -> None:
    assignor = CooperativeStickyAssignor()
    assert assignor.user_data(["t"]) == b"\xff\xff\xff\xff"
    assignor.on_assignment(tps("t-0"), 5)
    assert assignor.user_data(["t"]) == b"\0\0\0\x05"


def test_cooperative_claims_of_members_without_generation_field_come_from_user_data() -> None:
    assignor = CooperativeStickyAssignor()
    joined = {
        "old": MemberSubscription(["t"], struct.pack(">i", 3), tps("t-0", "t-1")),
        "new": MemberSubscription(["t"], struct.pack(">i", 4), tps("t-1")),
    }
    got = assignor.assign({"t": 2}, joined)
    assert got == {"old": tps("t-0"), "new": tps("t-1")}


def test_sticky_user_data_has_javas_bytes() -> None:
    assignor = StickyAssignor()
    assert assignor.user_data(["t"]) is None
    assignor.on_assignment(tps("t-0", "t-2", "u-1"), 9)
    data = assignor.user_data(["t"])
    assert data is not None
    assert data.hex() == (
        "00000002"  # topics
        "000174"
        "00000002"
        "00000000"
        "00000002"
        "000175"
        "00000001"
        "00000001"
        "00000009"  # generation
    )
    assert decode_sticky_user_data(data) == (tps("t-0", "t-2", "u-1"), 9)
    assert decode_sticky_user_data(data[:-4]) == (tps("t-0", "t-2", "u-1"), None)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\x01\0\x05ab", b"\x7f\xff\xff\xff" * 3])
def test_unreadable_sticky_user_data_claim_nothing(data: bytes) -> None:
    assert decode_sticky_user_data(data).partitions == []


def test_two_claims_of_one_generation_cancel_each_other() -> None:
    joined = {
        "a": MemberSubscription(["t"], None, tps("t-0", "t-1"), 1),
        "b": MemberSubscription(["t"], None, tps("t-0", "t-2"), 1),
    }
    got = CooperativeStickyAssignor().assign({"t": 4}, joined)
    assert tps("t-1")[0] in got["a"]
    assert tps("t-2")[0] in got["b"]
    assert not set(tps("t-0")) & {*got["a"], *got["b"]}  # one round in nobody's hands


def test_claim_of_the_newer_generation_wins() -> None:
    joined = {
        "a": MemberSubscription(["t"], None, tps("t-0", "t-1"), 2),
        "b": MemberSubscription(["t"], None, tps("t-0", "t-1"), 1),
    }
    got = CooperativeStickyAssignor().assign({"t": 2}, joined)
    assert len(got["a"]) == 1


def test_unequal_subscriptions_are_evened_out() -> None:
    subscribed = members(a="t1 t2 t3", b="t1", c="t2")
    got = StickyAssignor().assign({"t1": 2, "t2": 2, "t3": 2}, subscribed)
    check_valid(got, subscribed, {"t1": 2, "t2": 2, "t3": 2})
    assert counts(got) == [2, 2, 2]


def test_partitions_of_a_topic_that_is_no_longer_subscribed_go_to_those_who_do() -> None:
    assignor = StickyAssignor()
    subscribed = members(a="t1", b="t1 t2")
    before = {"a": tps("t1-0", "t2-0"), "b": tps("t1-1", "t2-1")}
    got = assignor.assign({"t1": 2, "t2": 2}, rejoin(assignor, subscribed, before, 1))
    check_valid(got, subscribed, {"t1": 2, "t2": 2})
    assert counts(got) == [2, 2]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("name", ["range", "roundrobin", "sticky", "cooperative-sticky"])
def test_any_group_gets_every_partition_once(name: str, seed: int) -> None:
    random_ = random.Random(seed)
    topics = {f"t{i}": random_.randrange(1, 8) for i in range(random_.randrange(1, 6))}
    same = random_.random() < 0.5
    subscribed = {
        f"m{i}": MemberSubscription(
            sorted(topics)
            if same
            else random_.sample(sorted(topics), random_.randrange(1, len(topics) + 1))
        )
        for i in range(random_.randrange(1, 7))
    }
    assignor = assignor_named(name)
    got = assignor.assign(topics, subscribed)
    check_valid(got, subscribed, topics)
    if name in ("sticky", "cooperative-sticky"):
        if same:
            assert counts(got)[-1] - counts(got)[0] <= 1
        gone = random_.choice(sorted(subscribed))
        left = {m: s for m, s in subscribed.items() if m != gone} or subscribed
        again = settle(assignor, left, {m: got[m] for m in left}, topics)
        check_valid(again, left, topics)
        if same:
            assert counts(again)[-1] - counts(again)[0] <= 1
            assert all(set(got[m]) <= set(again[m]) for m in left)


@pytest.mark.parametrize("length", [-1, -2, -6])
def test_user_data_that_lead_back_claim_nothing_at_once(length: int) -> None:
    hostile = struct.pack(">ihi", 2**31 - 1, length, 0) + bytes(12)
    assert decode_sticky_user_data(hostile).partitions == []


def test_a_member_that_claims_much_more_than_there_is_costs_little() -> None:
    """A claim is a partition once, and one that exists: no member makes the leader search long lists."""
    claims = [TopicPartition("t", number) for number in range(-5, 100_000)] * 2
    hostile = MemberSubscription(["t"], encode_sticky_user_data(claims, 5))
    honest = MemberSubscription(["t"], encode_sticky_user_data(tps("t-0", "t-1"), 5))
    subscribed = {"a": honest, "b": hostile}
    check_valid(StickyAssignor().assign({"t": 4}, subscribed), subscribed, {"t": 4})
