"""Static members (KIP-345, KIP-814): they keep their place over a restart, and fence who they were."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.groups.group import GroupState


def test_a_static_member_joins_without_being_told_its_id_first(table: Any) -> None:
    seat = table.join(instance="a", version=9)
    assert seat.code is ErrorCode.NONE
    assert seat.response.member_id == "a-1"
    assert seat.response.members[0].group_instance_id == "a"


def test_a_restarted_follower_gets_its_assignment_back_without_a_rebalance(table: Any) -> None:
    _, b = table.stable("a", "b", instances=True)
    back = table.join(instance="b", client_host="/10.0.0.9")
    new_id = back.response.member_id
    assert back.response.generation_id == table.group.generation == 2
    assert back.response.members == []
    assert table.group.state is GroupState.STABLE
    assert new_id != b
    assert table.sync(new_id, 2, instance="b").response.assignment == b"b"
    stored = {m.group_instance_id: m for m in table.stored[-1].members}
    assert stored["b"].member_id == new_id
    assert (stored["b"].assignment, stored["b"].client_host) == (b"b", "/10.0.0.9")


@pytest.mark.parametrize("version", [5, 8, 9])
def test_a_restarted_leader_does_not_assign_again(table: Any, version: int) -> None:
    a, _ = table.stable("a", "b", instances=True)
    back = table.join(instance="a", version=version).response
    assert table.group.state is GroupState.STABLE
    assert table.group.members.leader_id == back.member_id
    if version >= 9:  # it leads, but skips the assignment
        assert (back.leader, back.skip_assignment, len(back.members)) == (back.member_id, True, 2)
    else:  # it must not know that it leads
        assert (back.leader, back.skip_assignment, back.members) == (a, False, [])


def test_the_id_that_was_replaced_is_fenced_everywhere(table: Any) -> None:
    _, b = table.stable("a", "b", instances=True)
    new_id = table.join(instance="b").response.member_id
    assert table.heartbeat(b, 2, "b") is ErrorCode.FENCED_INSTANCE_ID
    assert table.sync(b, 2, instance="b").code is ErrorCode.FENCED_INSTANCE_ID
    assert table.commit(b, 2, "b") is ErrorCode.FENCED_INSTANCE_ID
    assert table.join(b, instance="b").code is ErrorCode.FENCED_INSTANCE_ID
    assert table.leave((b, "b")) == [ErrorCode.FENCED_INSTANCE_ID]
    assert table.heartbeat(b, 2) is ErrorCode.UNKNOWN_MEMBER_ID
    assert table.heartbeat(new_id, 2, "b") is ErrorCode.NONE


def test_whoever_waits_under_the_replaced_id_is_fenced_at_once(table: Any) -> None:
    a, b = table.stable("a", "b", instances=True)
    table.join(a, instance="a")
    waiting = table.join(b, instance="b")
    syncing = table.sync(b, 3, instance="b")
    assert syncing.code is None
    back = table.join(instance="b")
    assert syncing.code is ErrorCode.FENCED_INSTANCE_ID
    assert back.code is None
    assert table.group.state is GroupState.PREPARING  # the leader may be assigning to the old id
    again = table.join(instance="b")
    assert back.code is ErrorCode.FENCED_INSTANCE_ID
    table.join(a, instance="a")
    assert again.code is ErrorCode.NONE
    assert waiting.code is ErrorCode.NONE


def test_a_restart_with_other_protocols_rebalances_when_the_vote_changes(table: Any) -> None:
    both = {"range": b"", "sticky": b""}
    a, _ = table.stable("a", "b", instances=True, protocols=both)
    back = table.join(instance="b", protocols={"sticky": b""})
    assert table.group.state is GroupState.PREPARING
    table.join(a, instance="a", protocols=both)
    assert back.response.protocol_name == "sticky"
    assert back.response.generation_id == 3


def test_a_restart_with_other_protocols_and_the_same_vote_does_not(table: Any) -> None:
    both = {"range": b"", "sticky": b""}
    table.stable("a", "b", instances=True, protocols=both)
    assert table.join(instance="b", protocols={"range": b"new"}).code is ErrorCode.NONE
    assert table.group.state is GroupState.STABLE


def test_a_replacement_that_cannot_be_stored_is_taken_back(table: Any) -> None:
    both = {"range": b"", "sticky": b""}
    _, b = table.stable("a", "b", instances=True, protocols=both)
    before = table.group.value()
    table.refusal = ErrorCode.NOT_COORDINATOR
    back = table.join(instance="b", protocols={"range": b"other"}, session_ms=6_000)
    assert back.code is ErrorCode.NOT_COORDINATOR
    after = table.group.value()
    assert sorted(map(repr, after.members)) == sorted(map(repr, before.members))
    assert table.heartbeat(b, 2, "b") is ErrorCode.NONE
    assert table.join(name="c", protocols={"sticky": b""}).code is None  # its votes are back too


def test_a_static_member_that_is_away_keeps_its_place_for_its_session(table: Any) -> None:
    a, b = table.stable("a", "b", instances=True, session_ms=30_000, rebalance_ms=10_000)
    newcomer = table.join(name="c", rebalance_ms=10_000)
    table.join(a, instance="a", rebalance_ms=10_000, session_ms=30_000)
    table.wait(10_000)
    assert newcomer.code is ErrorCode.NONE
    assert b in table.group.members  # and is assigned to, though it did not come


def test_when_only_static_members_are_left_and_none_comes_their_sessions_decide(
    table: Any,
) -> None:
    a, b = table.stable("a", "b", instances=True, session_ms=30_000, rebalance_ms=10_000)
    table.join(name="c", rebalance_ms=10_000)
    table.leave("c-3")
    generation = table.group.generation
    table.wait(25_000)
    assert table.group.generation == generation
    assert {a, b} == {m.member_id for m in table.group.members}
    table.wait(10_000)
    assert table.group.state is GroupState.EMPTY


def test_an_administrator_removes_a_static_member_by_its_instance_id(table: Any) -> None:
    _, b = table.stable("a", "b", instances=True)
    assert table.leave(("", "b")) == [ErrorCode.NONE]
    assert b not in table.group.members
    assert table.group.members.static_id("b") is None
    assert table.group.state is GroupState.PREPARING


def test_an_instance_id_that_nobody_has_is_unknown(table: Any) -> None:
    (a,) = table.stable("a", instances=True)
    assert table.heartbeat(a, 1, "other") is ErrorCode.UNKNOWN_MEMBER_ID
    assert table.join("x", instance="other").code is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_restart_before_the_first_sync_keeps_the_sync_deadline(table: Any) -> None:
    options = {"session_ms": 90_000, "rebalance_ms": 20_000}
    a, b = table.stable("a", "b", instances=True, **options)
    table.join(a, instance="a", **options)
    table.join(b, instance="b", **options)
    table.sync(a, 3, {a: b"1", b: b"2"}, instance="a")
    back = table.join(instance="b", **options).response.member_id
    table.wait(20_000)
    assert back not in table.group.members
