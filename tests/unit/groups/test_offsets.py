"""Committed offsets and their expiry (KIP-211)."""

from __future__ import annotations

from collections.abc import Callable
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
