"""What a poll does about its group when the application's callbacks fail or the poll is cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, cast

import pytest

from ottla.client.consumer.membership import Joined, Membership
from ottla.client.consumer.positions import Positions
from ottla.client.consumer.rebalancing import Rebalancing
from ottla.client.consumer.subscription import Listeners, OnRebalance, Subscription
from ottla.client.types import OffsetAndMetadata, TopicPartition

OLD, KEPT, NEW = (TopicPartition("t", number) for number in range(3))


class Agreed:
    """A cooperative member whose group has just agreed."""

    def __init__(self, outcome: Iterable[TopicPartition]) -> None:
        self.failure = self.rejoin_reason = None
        self.lost = self.joining = False
        self.cooperative = True
        self.rejoins: list[str] = []
        self._outcome: Joined | None = Joined(1, cast("Any", None), list(outcome))

    def take_joined(self) -> Joined | None:
        joined, self._outcome = self._outcome, None
        return joined

    def request_rejoin(self, reason: str) -> None:
        self.rejoins.append(reason)


class Poll:
    """The rebalancing's surroundings: a member that has OLD and KEPT, and is given KEPT and NEW."""

    def __init__(self, listeners: Listeners) -> None:
        self.positions = Positions()
        self.positions.assign([OLD, KEPT])
        self.commits: list[BaseException] = []
        self.committed: list[dict[TopicPartition, OffsetAndMetadata]] = []
        subscription = Subscription()
        subscription.set_topics(["t"], listeners)
        self.member = Agreed([KEPT, NEW])
        self.rebalancing = Rebalancing(
            cast("Membership", self.member),
            self.positions,
            subscription,
            self._commit,
            self.positions.assign,
            self._invoke,
        )

    async def _commit(self) -> None:
        if self.commits:
            raise self.commits.pop()
        self.committed.append(self.positions.passed())

    def _invoke(self, listener: OnRebalance, partitions: list[TopicPartition]) -> Awaitable[None]:
        async def call() -> None:
            listener(partitions)

        return call()

    def attend(self) -> None:
        asyncio.run(self.rebalancing.attend())


def test_an_assignment_is_taken_by_the_next_poll_when_a_callback_failed_in_this_one() -> None:
    def fail(partitions: list[TopicPartition]) -> None:
        raise ZeroDivisionError

    assigned: list[TopicPartition] = []
    poll = Poll(Listeners(on_assigned=assigned.extend, on_revoked=fail))
    with pytest.raises(ZeroDivisionError):
        poll.attend()
    assert poll.positions.partitions == {KEPT}  # the others' rebalance does not wait for a bug
    poll.attend()
    assert poll.positions.partitions == {KEPT, NEW}
    assert assigned == [NEW]


def test_an_assignment_is_taken_by_the_next_poll_when_this_one_is_cancelled() -> None:
    revoked: list[TopicPartition] = []
    poll = Poll(Listeners(on_revoked=revoked.extend))
    poll.commits.append(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        poll.attend()
    assert poll.positions.partitions == {OLD, KEPT}
    poll.attend()
    assert poll.positions.partitions == {KEPT, NEW}
    assert revoked == [OLD]


def test_what_is_given_up_is_committed_first_as_far_as_it_was_passed() -> None:
    poll = Poll(Listeners(on_revoked=lambda partitions: None))
    for partition in (OLD, KEPT):
        poll.positions.get(partition).seek(5)
        poll.positions.get(partition).handed_out(9, -1)  # and the application is at it still
    poll.attend()
    assert poll.committed == [{OLD: OffsetAndMetadata(5), KEPT: OffsetAndMetadata(5)}]
    assert poll.positions.partitions == {KEPT, NEW}


def test_who_gives_up_partitions_lets_others_have_them_though_a_callback_fails() -> None:
    """The group assigns them only when the member that had them joins again."""

    def fail(partitions: list[TopicPartition]) -> None:
        raise ZeroDivisionError

    poll = Poll(Listeners(on_revoked=fail))
    with pytest.raises(ZeroDivisionError):
        poll.attend()
    poll.attend()
    assert poll.positions.partitions == {KEPT, NEW}
    assert len(poll.member.rejoins) == 1
