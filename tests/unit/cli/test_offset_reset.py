"""Where a group is moved."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.cli.failures import UsageError
from ottla.cli.offset_reset import Kind, Position, Target, parse_selection, plan, select, target_of

NOW_MS = 1_714_564_800_000
NOTHING: dict[str, Any] = {
    "to_earliest": False,
    "to_latest": False,
    "to_offset": None,
    "shift_by": None,
    "to_datetime": None,
    "by_duration": None,
    "now_ms": NOW_MS,
}


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({"to_earliest": True}, Target(Kind.EARLIEST)),
        ({"to_latest": True}, Target(Kind.LATEST)),
        ({"to_offset": 0}, Target(Kind.OFFSET, number=0)),
        ({"shift_by": -5}, Target(Kind.SHIFT, number=-5)),
        ({"to_datetime": "1h ago"}, Target(Kind.TIME, timestamp_ms=NOW_MS - 3_600_000)),
        ({"by_duration": "PT2H"}, Target(Kind.TIME, timestamp_ms=NOW_MS - 7_200_000)),
    ],
)
def test_one_option_says_where_to(options: dict[str, Any], target: Target) -> None:
    assert target_of(**{**NOTHING, **options}) == target


@pytest.mark.parametrize(
    "options",
    [{}, {"to_earliest": True, "to_latest": True}, {"to_offset": 1, "shift_by": 1}],
)
def test_none_or_several_is_a_mistake(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="one of --to-earliest"):
        target_of(**{**NOTHING, **options})


def test_a_bad_time_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="is no time"):
        target_of(**{**NOTHING, "to_datetime": "soon"})
    with pytest.raises(UsageError, match="is no duration"):
        target_of(**{**NOTHING, "by_duration": "soon"})


@pytest.mark.parametrize(
    ("target", "committed", "at_time", "new_offset", "note"),
    [
        (Target(Kind.EARLIEST), 15, None, 10, None),
        (Target(Kind.LATEST), None, None, 20, None),
        (Target(Kind.OFFSET, 12), 15, None, 12, None),
        (Target(Kind.OFFSET, 5), 15, None, 10, "5 is before the log's start"),
        (Target(Kind.OFFSET, 25), 15, None, 20, "25 is past the log's end"),
        (Target(Kind.SHIFT, -3), 15, None, 12, None),
        (Target(Kind.SHIFT, 3), 15, None, 18, None),
        (Target(Kind.SHIFT, -8), 15, None, 10, "7 is before the log's start"),
        (Target(Kind.SHIFT, -3), None, None, 17, "the group had no offset"),
        (Target(Kind.SHIFT, 3), None, None, 20, "the group had no offset"),
        (Target(Kind.TIME, timestamp_ms=1), 15, 13, 13, None),
        (Target(Kind.TIME, timestamp_ms=1), 15, None, 20, "no record that late"),
    ],
)
def test_the_new_offset_stays_inside_the_log(
    target: Target, committed: int | None, at_time: int | None, new_offset: int, note: str | None
) -> None:
    (move,) = plan(target, [Position("t", 0, committed, 10, 20, at_time)])
    assert move.new_offset == new_offset
    assert (move.note or "").startswith(note or "")
    assert (note is None) == (move.note is None)


@given(
    st.sampled_from(Kind),
    st.integers(-(2**40), 2**40),
    st.none() | st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.none() | st.integers(0, 2**40),
)
def test_no_target_leads_out_of_the_log(
    kind: Kind, number: int, committed: int | None, start: int, length: int, at_time: int | None
) -> None:
    position = Position("t", 0, committed, start, start + length, at_time)
    (move,) = plan(Target(kind, number, 5), [position])
    assert start <= move.new_offset <= start + length


def test_moves_come_by_topic_and_partition() -> None:
    positions = [
        Position(topic, number, 0, 0, 1) for topic, number in [("b", 0), ("a", 10), ("a", 9)]
    ]
    moves = plan(Target(Kind.LATEST), positions)
    assert [(move.topic, move.partition) for move in moves] == [("a", 9), ("a", 10), ("b", 0)]


def test_topics_and_partitions_are_selected() -> None:
    assert parse_selection(["a", "b:0,2-4", "b:7", "a:1", "c:1"]) == {
        "a": None,
        "b": {0, 2, 3, 4, 7},
        "c": {1},
    }
    existing = {"a": [0, 1], "b": [0, 1, 2]}
    assert select({"b": {2, 0}, "a": None}, existing) == [("b", 0), ("b", 2), ("a", 0), ("a", 1)]


@pytest.mark.parametrize("text", [":1", "a:", "a:x", "a:1-", "a:-1", "a:1,,2", "a:" + "9" * 20])
def test_a_selection_that_means_nothing_is_a_mistake(text: str) -> None:
    with pytest.raises(UsageError, match="TOPIC:0,2-4"):
        parse_selection([text])


def test_what_does_not_exist_can_not_be_selected() -> None:
    with pytest.raises(UsageError, match="there is no topic x"):
        select({"x": None}, {"a": [0]})
    with pytest.raises(UsageError, match="topic a has no partition 5, 6"):
        select({"a": {0, 5, 6}}, {"a": [0]})
