"""Positions: what is fetched, handed out and passed, and what throws which of them away."""

from __future__ import annotations

import pytest

from ottla.client.consumer.positions import (
    EARLIEST_TIMESTAMP,
    LeaderAndEpoch,
    PartitionState,
    Phase,
    Positions,
)
from ottla.client.types import OffsetAndMetadata, TopicPartition

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def state() -> PartitionState:
    """A partition that was read to 10, handed out to 7 and passed to 5, all in epoch 3."""
    state = PartitionState(T0)
    state.leader = LeaderAndEpoch(1, 3)
    state.seek(5, 3)
    state.handed_out(7, 3)
    state.fetch_offset, state.fetch_epoch = 10, 3
    return state


def test_a_new_partition_needs_its_committed_offset() -> None:
    positions = Positions()
    positions.assign([T0])
    assert [s.topic_partition for s in positions.in_phase(Phase.COMMITTED, 0)] == [T0]
    assert not positions.settled
    assert positions.passed() == {}
    assert positions.handed_out() == {}


def test_what_was_handed_out_is_passed_only_when_more_is_asked_for(state: PartitionState) -> None:
    assert (state.passed, state.position) == (5, 7)
    state.pass_handed_out()
    assert (state.passed, state.passed_epoch) == (7, 3)


@pytest.mark.parametrize("phase", [Phase.FETCH, Phase.VALIDATE])
def test_what_did_not_reach_the_application_is_fetched_again(
    state: PartitionState, phase: Phase
) -> None:
    version, state.phase = state.version, phase
    state.take_back()
    assert (state.position, state.version) == (5, version)
    state.fetch_again()
    assert (state.fetch_offset, state.fetch_epoch, state.phase) == (5, 3, phase)
    assert state.version == version + 1
    state.fetch_again()  # nothing is ahead
    assert state.version == version + 1


def test_a_seek_throws_away_what_is_under_way(state: PartitionState) -> None:
    version = state.version
    state.seek(2)
    assert state.version == version + 1
    assert (state.passed, state.position, state.fetch_offset) == (2, 2, 2)
    assert state.phase is Phase.FETCH


def test_an_offset_with_an_epoch_is_validated_first(state: PartitionState) -> None:
    phases = []
    for epoch in (1, -1):
        state.seek(2, epoch, validate=True)
        phases.append(state.phase)
    assert phases == [Phase.VALIDATE, Phase.FETCH]


def test_a_reset_leaves_nothing_to_commit(state: PartitionState) -> None:
    state.request_reset(EARLIEST_TIMESTAMP)
    assert (state.phase, state.passed, state.position) == (Phase.RESET, -1, -1)


def test_a_leader_of_a_newer_epoch_has_to_confirm_what_was_read(state: PartitionState) -> None:
    version = state.version
    state.leader_changed(LeaderAndEpoch(2, 4))
    assert state.phase is Phase.VALIDATE
    assert state.version == version  # what is buffered stays until the answer


def test_an_old_leader_and_the_same_leader_change_nothing(state: PartitionState) -> None:
    for leader in (LeaderAndEpoch(1, 3), LeaderAndEpoch(2, 2)):
        state.leader_changed(leader)
        assert state.leader == LeaderAndEpoch(1, 3)
        assert state.phase is Phase.FETCH


def test_a_partition_that_was_never_read_needs_no_validation() -> None:
    state = PartitionState(T0)
    state.seek(0)
    state.leader_changed(LeaderAndEpoch(2, 4))
    assert state.phase is Phase.FETCH


def test_truncation_is_an_end_before_what_was_fetched(state: PartitionState) -> None:
    assert state.truncated_at(9, 3)
    assert not state.truncated_at(10, 3)
    assert state.truncated_at(-1, -1)


@pytest.mark.parametrize(
    ("end", "position", "passed"),
    [(8, 7, 5), (6, 6, 5), (3, 3, 3)],
    ids=["only what was buffered", "what was handed out", "what was passed"],
)
def test_a_rewind_goes_back_only_as_far_as_it_must(
    state: PartitionState, end: int, position: int, passed: int
) -> None:
    version = state.version
    state.rewind(end, 2)
    assert state.version == version + 1
    assert (state.fetch_offset, state.position, state.passed) == (position, position, passed)


def test_reassignment_keeps_what_stays_and_ends_what_goes() -> None:
    positions = Positions()
    positions.assign([T0, T1])
    kept, gone = positions.get(T0), positions.get(T1)
    kept.seek(5)
    version = gone.version
    positions.assign([T0])
    assert positions.get(T0) is kept
    assert gone.version == version + 1
    assert T1 not in positions
    with pytest.raises(RuntimeError, match="t-1"):
        positions.get(T1)
    assert positions.find(T1) is None


def test_commits_carry_the_epoch() -> None:
    positions = Positions()
    positions.assign([T0, T1])
    positions.get(T0).seek(5, 2)
    positions.get(T0).handed_out(9, 3)
    assert positions.passed() == {T0: OffsetAndMetadata(5, "", 2)}
    assert positions.handed_out() == {T0: OffsetAndMetadata(9, "", 3)}
    positions.pass_all()
    assert positions.passed() == {T0: OffsetAndMetadata(9, "", 3)}


def test_a_partition_that_backs_off_is_not_due() -> None:
    positions = Positions()
    positions.assign([T0])
    positions.get(T0).retry_at_ms = 100
    assert positions.in_phase(Phase.COMMITTED, 99) == []
    assert len(positions.in_phase(Phase.COMMITTED, 100)) == 1


def test_an_assignment_may_change_while_the_application_asks_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    positions = Positions()
    positions.assign([TopicPartition("t", 0), TopicPartition("t", 1)])
    pass_one = PartitionState.pass_handed_out

    def grow(state: PartitionState) -> None:
        positions.assign([TopicPartition("t", number) for number in range(9)])
        pass_one(state)

    monkeypatch.setattr(PartitionState, "pass_handed_out", grow)
    positions.pass_all()
    assert len(positions) == 9
