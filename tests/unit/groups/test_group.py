"""The state machine of one group: joins, syncs, heartbeats, leaves, and what time does."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.groups.group import GroupState


def test_first_join_of_a_new_group_is_answered_at_once_without_an_initial_delay(table: Any) -> None:
    seat = table.join(protocols={"range": b"meta"})
    assert seat.code is ErrorCode.NONE
    assert seat.response.generation_id == 1
    assert seat.response.leader == seat.response.member_id
    assert [(m.member_id, m.metadata) for m in seat.response.members] == [("m-1", b"meta")]
    assert table.group.state is GroupState.COMPLETING


def test_a_new_dynamic_member_is_told_its_id_first_from_version_4_on(table: Any) -> None:
    first = table.join(version=4)
    assert first.code is ErrorCode.MEMBER_ID_REQUIRED
    assert len(table.group.members) == 0
    second = table.join(first.response.member_id, version=4)
    assert second.code is ErrorCode.NONE
    assert second.response.member_id == first.response.member_id


def test_an_id_that_was_given_out_and_not_used_lapses_after_one_session(table: Any) -> None:
    first = table.join(version=4, session_ms=7_000)
    table.wait(6_999)
    assert table.group.members.pending
    table.wait(1)
    assert not table.group.members.pending
    assert table.join(first.response.member_id, version=4).code is ErrorCode.UNKNOWN_MEMBER_ID


def test_ids_that_are_out_are_bounded(new_table: Any, quick: Any) -> None:
    table = new_table(quick._replace(group_max_pending_members=2))
    codes = [table.join(version=4).code for _ in range(3)]
    assert codes == [ErrorCode.MEMBER_ID_REQUIRED] * 2 + [ErrorCode.GROUP_MAX_SIZE_REACHED]


def test_a_new_group_waits_its_initial_delay_and_longer_while_members_come(
    new_table: Any, quick: Any
) -> None:
    table = new_table(quick._replace(group_initial_rebalance_delay_ms=3_000))
    first = table.join(name="a")
    table.wait(2_999)
    second = table.join(name="b")
    table.wait(1)
    assert first.code is None
    table.wait(3_000)
    assert first.code is second.code is ErrorCode.NONE
    assert first.response.generation_id == second.response.generation_id == 1
    assert len(first.response.members) == 2
    assert second.response.members == []


def test_the_initial_delay_never_exceeds_the_rebalance_timeout(new_table: Any, quick: Any) -> None:
    table = new_table(quick._replace(group_initial_rebalance_delay_ms=3_000))
    seats = [table.join(name="a", rebalance_ms=7_000)]
    for _ in range(9):
        table.wait(1_000)
        if seats[0].code is None:
            seats.append(table.join(name="b", rebalance_ms=7_000))
    assert table.monotonic_ms == 9_000
    assert seats[0].code is ErrorCode.NONE
    assert len(seats[0].response.members) == len(seats) == 7


def test_every_member_of_a_generation_gets_its_part_of_one_assignment(table: Any) -> None:
    a = table.join(name="a")
    b = table.join(name="b")
    assert table.group.state is GroupState.PREPARING
    a = table.join(a.response.member_id)
    assert a.response.generation_id == b.response.generation_id == 2
    waiting = table.sync("b-2", 2)
    assert waiting.code is None
    leader = table.sync("a-1", 2, {"a-1": b"one", "b-2": b"two", "stranger": b"three"})
    assert (leader.response.assignment, waiting.response.assignment) == (b"one", b"two")
    assert table.sync("b-2", 2).response.assignment == b"two"
    assert [m.member_id for m in table.stored[-1].members] == ["a-1", "b-2"]
    assert table.group.state is GroupState.STABLE


def test_an_assignment_that_a_follower_brings_is_not_taken(table: Any) -> None:
    a = table.join(name="a")
    b = table.join(name="b")
    a = table.join(a.response.member_id)
    follower = table.sync(b.response.member_id, 2, {"a-1": b"stolen", "b-2": b"stolen"})
    assert (follower.code, table.group.state) == (None, GroupState.COMPLETING)
    leader = table.sync(a.response.member_id, 2, {"a-1": b"one", "b-2": b"two"})
    assert (leader.response.assignment, follower.response.assignment) == (b"one", b"two")


def test_the_protocol_that_most_members_prefer_wins(table: Any) -> None:
    ours = {"range": b"", "sticky": b""}
    theirs = {"sticky": b"", "range": b""}
    a = table.join(name="a", protocols=ours).response.member_id
    b = table.join(name="b", protocols=theirs)
    table.join(a, protocols=ours)
    c = table.join(name="c", protocols=theirs | {"own": b""})
    table.join(a, protocols=ours)
    table.join(b.response.member_id, protocols=theirs)
    assert c.response.protocol_name == "sticky"


@pytest.mark.parametrize(
    "options",
    [{"protocols": {"other": b""}}, {"protocol_type": "connect"}, {"protocols": {}}],
)
def test_a_member_that_does_not_speak_the_groups_protocol_is_refused(
    table: Any, options: dict[str, Any]
) -> None:
    table.stable("a")
    assert table.join(name="b", **options).code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert table.group.state is GroupState.STABLE


@pytest.mark.parametrize("options", [{"protocols": {}}, {"protocol_type": ""}])
def test_a_new_group_needs_a_protocol(table: Any, options: dict[str, Any]) -> None:
    assert table.join(**options).code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_a_rebalance_tells_the_others_to_join_again_and_leaves_out_who_does_not(
    table: Any,
) -> None:
    a, b = table.stable("a", "b", session_ms=30_000, rebalance_ms=20_000)
    newcomer = table.join(name="c", rebalance_ms=20_000)
    generation = table.group.generation
    assert table.heartbeat(a, generation) is ErrorCode.REBALANCE_IN_PROGRESS
    assert table.sync(a, generation).code is ErrorCode.REBALANCE_IN_PROGRESS
    table.join(a, rebalance_ms=20_000, session_ms=30_000)
    table.wait(19_000)
    assert newcomer.code is None
    table.wait(1_000)
    assert newcomer.code is ErrorCode.NONE
    assert b not in table.group.members
    assert table.heartbeat(b, generation + 1) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_leader_that_does_not_come_back_loses_to_the_first_that_did(table: Any) -> None:
    a, b = table.stable("a", "b", session_ms=90_000)
    table.join(name="c")
    again = table.join(b)
    table.wait(60_000)
    assert again.response.leader == b
    assert a not in table.group.members


def test_a_follower_that_joins_again_unchanged_stays_in_its_generation(table: Any) -> None:
    _, b = table.stable("a", "b")
    again = table.join(b)
    assert again.response.generation_id == table.group.generation == 2
    assert again.response.members == []
    assert table.group.state is GroupState.STABLE


def test_a_leader_that_joins_again_forces_a_rebalance(table: Any) -> None:
    a, b = table.stable("a", "b")
    table.join(a)
    assert table.group.state is GroupState.PREPARING
    table.join(b)
    assert table.group.generation == 3


def test_a_member_that_missed_its_join_answer_gets_it_again(table: Any) -> None:
    a = table.join(name="a").response.member_id
    again = table.join(a)
    assert again.response.generation_id == 1
    assert len(again.response.members) == 1
    assert table.group.state is GroupState.COMPLETING


def test_changed_metadata_forces_a_rebalance_also_of_order_alone(table: Any) -> None:
    _, b = table.stable("a", "b", protocols={"range": b"", "sticky": b""})
    table.join(b, protocols={"sticky": b"", "range": b""})
    assert table.group.state is GroupState.PREPARING


def test_a_rebalance_sends_away_those_who_wait_for_the_assignment(table: Any) -> None:
    a, b = table.stable("a", "b")
    table.join(a)
    table.join(b)
    waiting = table.sync(b, 3)
    table.join(name="c")
    assert waiting.code is ErrorCode.REBALANCE_IN_PROGRESS


def test_members_that_do_not_sync_are_out_after_the_rebalance_timeout(table: Any) -> None:
    a, b = table.stable("a", "b", session_ms=90_000, rebalance_ms=20_000)
    options = {"session_ms": 90_000, "rebalance_ms": 20_000}
    table.join(a, **options)
    table.join(b, **options)
    table.sync(a, 3, {a: b"x"})
    assert table.group.state is GroupState.STABLE
    table.wait(20_000)
    assert b not in table.group.members
    assert table.heartbeat(a, 3) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_session_without_heartbeats_ends_and_the_others_rebalance(table: Any) -> None:
    a, b = table.stable("a", "b", session_ms=10_000)
    for _ in range(3):
        table.wait(4_000)
        code = table.heartbeat(a, 2)
    assert code is ErrorCode.REBALANCE_IN_PROGRESS
    assert b not in table.group.members
    assert table.heartbeat(b, 2) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_heartbeat_keeps_a_session_and_a_commit_does_too(table: Any) -> None:
    (a,) = table.stable("a", session_ms=10_000)
    for _ in range(5):
        table.wait(9_000)
        assert table.heartbeat(a, 1) is ErrorCode.NONE
        table.wait(9_000)
        assert table.commit(a, 1) is ErrorCode.NONE


def test_a_member_that_waits_for_us_needs_no_heartbeat(table: Any) -> None:
    a, b = table.stable("a", "b", session_ms=10_000)
    waiting = table.join(a, session_ms=10_000)
    for _ in range(4):
        table.wait(9_000)
        assert table.heartbeat(b, 2) is ErrorCode.REBALANCE_IN_PROGRESS
    assert waiting.code is None
    assert a in table.group.members


def test_a_new_members_first_wait_is_bounded(new_table: Any, quick: Any) -> None:
    table = new_table(quick._replace(group_new_member_join_timeout_ms=20_000))
    table.stable("a", session_ms=90_000, rebalance_ms=90_000)
    waiting = table.join(name="b")
    table.wait(20_000)
    assert waiting.code is ErrorCode.UNKNOWN_MEMBER_ID
    assert len(table.group.members) == 1


def test_the_last_one_to_leave_makes_the_group_empty_and_that_is_stored(table: Any) -> None:
    a, b = table.stable("a", "b")
    assert table.leave(a, b) == [ErrorCode.NONE, ErrorCode.NONE]
    assert table.group.state is GroupState.EMPTY
    assert table.group.generation == 3
    last = table.stored[-1]
    assert (last.generation, last.members, last.protocol) == (3, [], None)
    assert last.protocol_type == "consumer"
    assert last.current_state_timestamp == table.wall_ms


def test_each_member_of_a_leave_has_its_own_error(table: Any) -> None:
    a, _ = table.stable("a", "b")
    assert table.leave(a, "stranger", ("", "nobody")) == [
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]
    assert table.group.state is GroupState.PREPARING


def test_a_leave_that_names_nobody_changes_nothing(table: Any) -> None:
    table.stable("a")
    assert table.leave("stranger") == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert table.group.state is GroupState.STABLE


def test_who_leaves_while_waiting_is_answered(table: Any) -> None:
    a, b = table.stable("a", "b")
    waiting = table.join(b)
    waiting = table.join(a)
    assert waiting.code is None
    table.leave(a)
    assert waiting.code is ErrorCode.UNKNOWN_MEMBER_ID


def test_the_last_one_that_is_waited_for_leaves_and_the_generation_begins(table: Any) -> None:
    a, b = table.stable("a", "b")
    waiting = table.join(a)
    table.leave(b)
    assert waiting.response.generation_id == 3


def test_a_request_sent_twice_has_the_first_answered(table: Any) -> None:
    a, b = table.stable("a", "b")
    first = table.join(a)
    second = table.join(a)
    assert first.code is ErrorCode.REBALANCE_IN_PROGRESS
    assert second.code is None
    table.join(b)
    assert second.code is ErrorCode.NONE
    waiting = table.sync(b, 3)
    again = table.sync(b, 3)
    assert waiting.code is ErrorCode.REBALANCE_IN_PROGRESS
    assert again.code is None


@pytest.mark.parametrize("generation", [0, 1, 3, -1])
def test_a_stale_generation_is_refused_everywhere(table: Any, generation: int) -> None:
    a, _ = table.stable("a", "b")
    before = table.group.value()
    assert table.heartbeat(a, generation) is ErrorCode.ILLEGAL_GENERATION
    assert table.sync(a, generation, {a: b"!"}).code is ErrorCode.ILLEGAL_GENERATION
    assert table.commit(a, generation) is ErrorCode.ILLEGAL_GENERATION
    assert table.group.value() == before


def test_a_stranger_is_refused_everywhere(table: Any) -> None:
    table.stable("a")
    assert table.heartbeat("x", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert table.sync("x", 1).code is ErrorCode.UNKNOWN_MEMBER_ID
    assert table.commit("x", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert table.join("x").code is ErrorCode.UNKNOWN_MEMBER_ID


def test_commits_without_a_generation_need_an_empty_group(table: Any) -> None:
    assert table.commit("", -1) is ErrorCode.NONE
    (a,) = table.stable("a")
    assert table.commit("", -1) is ErrorCode.UNKNOWN_MEMBER_ID
    table.leave(a)
    assert table.commit("", -1) is ErrorCode.NONE
    assert table.commit(a, 1) is ErrorCode.UNKNOWN_MEMBER_ID


def test_no_commit_before_the_generation_has_its_assignment(table: Any) -> None:
    a = table.join(name="a").response.member_id
    assert table.commit(a, 1) is ErrorCode.REBALANCE_IN_PROGRESS
    table.sync(a, 1)
    assert table.commit(a, 1) is ErrorCode.NONE


def test_commits_are_taken_while_members_are_joining_again(table: Any) -> None:
    a, _ = table.stable("a", "b")
    table.join(name="c")
    assert table.commit(a, 2) is ErrorCode.NONE


@pytest.mark.parametrize(
    "named", [{"protocol_type": "connect"}, {"protocol_name": "sticky"}], ids=["type", "name"]
)
def test_a_sync_that_names_another_protocol_is_refused(table: Any, named: dict[str, str]) -> None:
    a = table.join().response.member_id
    assert table.sync(a, 1, **named).code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    seat = table.sync(a, 1, protocol_type="consumer", protocol_name="range")
    assert (seat.response.protocol_type, seat.response.protocol_name) == ("consumer", "range")


def test_an_assignment_that_cannot_be_stored_is_not_given_out(table: Any) -> None:
    a, b = table.stable("a", "b")
    table.join(a)
    table.join(b)
    follower = table.sync(b, 3)
    table.refusal = ErrorCode.COORDINATOR_NOT_AVAILABLE
    leader = table.sync(a, 3, {a: b"1", b: b"2"})
    assert leader.code is follower.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert table.group.state is GroupState.PREPARING
    assert all(member.assignment == b"" for member in table.group.members)


def test_a_full_group_takes_nobody_else_and_keeps_its_members(new_table: Any, quick: Any) -> None:
    table = new_table(quick._replace(group_max_size=2))
    _, b = table.stable("a", "b")
    assert table.join(name="c").code is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert table.join(b).code is ErrorCode.NONE
    assert table.group.state is GroupState.STABLE


def test_a_group_over_a_lowered_limit_keeps_those_who_come_back_first(
    new_table: Any, quick: Any
) -> None:
    table = new_table(quick)
    a, b, c = table.stable("a", "b", "c")
    value = table.group.value()
    small = new_table(quick._replace(group_max_size=2))
    small.group = small.group.load("g", value, small.settings)
    small.take(small.group.activate(small.now))
    assert small.group.state is GroupState.PREPARING
    small.join(b)
    waiting = small.join(c)
    refused = small.join(a)
    assert refused.code is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert waiting.code is ErrorCode.NONE
    assert {m.member_id for m in small.group.members} == {b, c}


def test_an_unloaded_group_answers_everyone_who_waits(table: Any) -> None:
    a, b = table.stable("a", "b")
    joining = table.join(a)
    table.take(table.group.close())
    assert joining.code is ErrorCode.NOT_COORDINATOR
    assert table.heartbeat(b, 2) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert table.join(name="c").code is ErrorCode.COORDINATOR_NOT_AVAILABLE


def test_a_loaded_group_goes_on_where_it_was(table: Any, new_table: Any) -> None:
    a, b = table.stable("a", "b", session_ms=10_000)
    after = new_table()
    after.group = table.group.load("g", table.stored[-1], after.settings)
    after.take(after.group.activate(after.now))
    assert after.group.state is GroupState.STABLE
    assert after.heartbeat(a, 2) is ErrorCode.NONE
    assert after.sync(b, 2).response.assignment == b"b"
    after.wait(9_000)
    assert after.heartbeat(a, 2) is ErrorCode.NONE
    after.wait(1_000)
    assert b not in after.group.members


def test_deadlines_are_looked_at_no_later_than_the_earliest(table: Any) -> None:
    a, _ = table.stable("a", "b", session_ms=10_000)
    due = table.group.wake_ms
    table.wait(5_000)
    for _ in range(1_000):
        table.heartbeat(a, 2)
    assert table.group.wake_ms == due  # a heartbeat schedules nothing
