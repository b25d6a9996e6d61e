"""Committed offsets and their expiry (KIP-211)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ottla.groups.offsets import CommittedOffset, CommittedOffsets, expired

WEEK_MS = 7 * 24 * 3_600_000


def at(timestamp_ms: int, expiry_ms: int = -1) -> CommittedOffset:
    """An offset that was committed then."""
    return CommittedOffset(1, -1, "", timestamp_ms, expiry_ms)


def test_offsets_are_kept_by_group_topic_and_partition() -> None:
    offsets = CommittedOffsets()
    offsets.put("g", "t", 0, at(1))
    offsets.put("g", "t", 0, at(2))
    offsets.put("g", "u", 3, at(3))
    assert offsets.of("g") == {"t": {0: at(2)}, "u": {3: at(3)}}
    assert list(offsets.of_topics(frozenset(("u", "x")))) == [("g", "u", 3)]
    offsets.remove("g", "t", 0)
    offsets.remove("g", "u", 3)
    offsets.remove("g", "u", 3)
    assert "g" not in offsets


def test_the_offsets_of_a_topic_are_found_among_many_groups() -> None:
    offsets = CommittedOffsets()
    random = Random(7)
    places = {
        (f"g{random.randrange(20)}", f"t{random.randrange(5)}", random.randrange(3))
        for _ in range(300)
    }
    for place in places:
        offsets.put(*place, at(1))
    gone = set(random.sample(sorted(places), len(places) // 2))
    for place in gone:
        offsets.remove(*place)
        offsets.remove(*place)
    left = places - gone
    assert offsets.topics() == {topic for _, topic, _ in left}
    for topic in (f"t{number}" for number in range(6)):
        found = list(offsets.of_topics(frozenset((topic,))))
        assert sorted(found) == sorted(place for place in left if place[1] == topic)


def test_a_topics_end_does_not_look_at_groups_that_never_read_it() -> None:
    class Group(str):
        """A group's name that does not want to be looked at."""

        __slots__ = ()
        looked_at = 0

        def __hash__(self) -> int:
            Group.looked_at += 1
            return super().__hash__()

    offsets = CommittedOffsets()
    for number in range(100):
        offsets.put(Group(f"g{number}"), "other", 0, at(1))
    offsets.put("reader", "t", 0, at(1))
    Group.looked_at = 0
    assert list(offsets.of_topics(frozenset(("t",)))) == [("reader", "t", 0)]
    assert Group.looked_at == 0


def test_asking_for_a_group_that_is_not_known_takes_no_memory() -> None:
    offsets = CommittedOffsets()
    assert offsets.of("g") == {}
    assert "g" not in offsets


def test_offsets_of_a_simple_group_expire_after_their_commit(table: Any) -> None:
    now_ms = table.wall_ms
    topics = {"t": {0: at(now_ms - WEEK_MS), 1: at(now_ms - WEEK_MS + 1)}}
    assert expired(table.group, topics, now_ms, WEEK_MS) == [("t", 0)]


def test_offsets_of_an_empty_group_expire_after_it_became_empty(table: Any) -> None:
    (a,) = table.stable("a")
    topics = {"t": {0: at(table.wall_ms - 2 * WEEK_MS)}}
    table.leave(a)
    assert expired(table.group, topics, table.wall_ms + WEEK_MS - 1, WEEK_MS) == []
    assert expired(table.group, topics, table.wall_ms + WEEK_MS, WEEK_MS) == [("t", 0)]


def test_offsets_of_an_active_group_do_not_expire(
    table: Any, subscribed: Callable[..., bytes]
) -> None:
    """Invariant 35."""
    table.stable("a", protocols={"range": subscribed("t")})
    assert expired(table.group, {"t": {0: at(0)}}, table.wall_ms, WEEK_MS) == []


def test_offsets_of_topics_that_an_active_group_left_expire_after_their_commit(
    table: Any, subscribed: Callable[..., bytes]
) -> None:
    table.stable("a", "b", protocols={"range": subscribed("t")})
    now_ms = table.wall_ms
    topics = {"t": {0: at(0)}, "old": {0: at(0), 1: at(now_ms)}}
    assert expired(table.group, topics, now_ms, WEEK_MS) == [("old", 0)]
    table.join(name="c", protocols={"range": subscribed("t")})
    assert expired(table.group, topics, now_ms, WEEK_MS) == []  # while it rebalances, nothing


@pytest.mark.parametrize(
    "options",
    [{"protocol_type": "connect"}, {"protocols": {"range": b"?"}}],
    ids=["not consumers", "metadata of another kind"],
)
def test_nothing_expires_where_the_topics_of_members_are_not_known(
    table: Any, options: dict[str, Any]
) -> None:
    table.stable("a", **options)
    assert expired(table.group, {"t": {0: at(0)}}, table.wall_ms, WEEK_MS) == []


def test_an_offset_with_its_own_retention_expires_by_that(table: Any) -> None:
    now_ms = table.wall_ms
    topics = {"t": {0: at(now_ms, now_ms), 1: at(0, now_ms + 1)}}
    assert expired(table.group, topics, now_ms, WEEK_MS) == [("t", 0)]


def test_a_group_of_an_old_record_without_a_time_expires_by_commits(table: Any) -> None:
    (a,) = table.stable("a")
    table.leave(a)
    value = table.stored[-1]
    value.current_state_timestamp = -1
    group = table.group.load("g", value, table.settings)
    now_ms = table.wall_ms
    topics = {"t": {0: at(now_ms - WEEK_MS), 1: at(now_ms)}}
    assert expired(group, topics, now_ms, WEEK_MS) == [("t", 0)]
