"""Waiters are completed in offset order, in their leader's epoch, or told that nobody knows."""

from __future__ import annotations

from ottla.errors import ErrorCode
from ottla.replication.waiters import CommitWaiters


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[object, object]] = []

    def committed(self, token: object) -> None:
        self.events.append((token, "committed"))

    def failed(self, token: object, code: ErrorCode) -> None:
        self.events.append((token, code))


def test_an_advance_completes_what_it_covers_and_no_more() -> None:
    waiters, told = CommitWaiters(), Told()
    for end_offset in (3, 5, 5, 9):
        waiters.add(end_offset, told, end_offset)
    waiters.advance(4)
    assert told.events == [(3, "committed")]
    waiters.advance(5)
    assert told.events == [(3, "committed"), (5, "committed"), (5, "committed")]
    assert len(waiters) == 1


def test_a_duplicate_waits_for_its_own_offset_not_for_the_last() -> None:
    waiters, told = CommitWaiters(), Told()
    waiters.add(10, told, "new")
    waiters.add(4, told, "duplicate")
    waiters.add(7, told, "another")
    waiters.advance(4)
    assert told.events == [("duplicate", "committed")]
    waiters.advance(10)
    assert told.events[1:] == [("another", "committed"), ("new", "committed")]


def test_lost_leadership_fails_everybody_once() -> None:
    waiters, told = CommitWaiters(), Told()
    waiters.add(1, told, "a")
    waiters.add(2, told, "b")
    waiters.fail_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    waiters.advance(100)
    assert told.events == [
        ("a", ErrorCode.NOT_LEADER_OR_FOLLOWER),
        ("b", ErrorCode.NOT_LEADER_OR_FOLLOWER),
    ]


def test_a_waiter_that_is_told_may_add_another() -> None:
    waiters = CommitWaiters()
    told = Told()

    class Again(Told):
        def committed(self, token: object) -> None:
            waiters.add(2, told, "second")

    waiters.add(1, Again(), "first")
    waiters.advance(2)
    assert told.events == [("second", "committed")]
