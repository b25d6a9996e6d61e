"""What a ``poll`` does about its group before it hands out records: Java's join preparation and completion.

Eager assignors: everything is committed and given up before joining. Cooperative ones: only what is no
longer subscribed is given up before, and after the rebalance what now belongs to others; having given
that up the member joins again, so that its new owner gets it. An outcome that an interrupted ``poll`` had
begun to take is taken by the next one. Whatever is revoked has had its passed
records committed (with auto-commit) while this member still owned it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from ottla.client.consumer.membership import Joined, Membership
from ottla.client.consumer.positions import Positions
from ottla.client.consumer.subscription import OnRebalance, Subscription
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode

Invoke = Callable[[OnRebalance, list[TopicPartition]], Awaitable[None]]


class Rebalancing:
    """The group's part of a poll."""

    def __init__(
        self,
        membership: Membership,
        positions: Positions,
        subscription: Subscription,
        commit_passed: Callable[[], Awaitable[None]],
        on_assignment: Callable[[Iterable[TopicPartition]], None],
        invoke: Invoke,
    ) -> None:
        self._membership = membership
        self._positions = positions
        self._subscription = subscription
        self._commit_passed = commit_passed
        self._on_assignment = on_assignment
        self._invoke = invoke
        self._joined: Joined | None = None

    async def attend(self) -> None:
        """Everything that can be done without waiting for other members; runs callbacks."""
        membership = self._membership
        if membership.failure is not None:
            error = membership.failure
            if error.code is not ErrorCode.FENCED_INSTANCE_ID:
                membership.failure = None  # it may pass; that another took our place does not
            raise error.with_traceback(None)
        if membership.lost:
            await self.lose()
        self._joined = membership.take_joined() or self._joined
        if self._joined is not None:
            await self._adopt(self._joined)
        if membership.lost:
            await self.lose()
        if membership.rejoin_reason is not None and not membership.joining:
            if not self._subscription.topics:
                return  # a pattern that matches nothing yet
            await self._prepare()
            owned = sorted(self._positions.partitions)
            membership.begin_join(sorted(self._subscription.topics), owned)

    async def lose(self) -> None:
        """Others may own our partitions already: nothing to commit."""
        self._membership.lost = False
        self._joined = None
        partitions = sorted(self._positions.partitions)
        self._on_assignment([])
        if partitions:
            listeners = self._subscription.listeners
            await self._call(listeners.on_lost or listeners.on_revoked, partitions)

    async def give_up_all(self) -> None:
        """Before the group is left; where the place is lost already, so are the partitions."""
        if self._membership.generation_id < 0:
            await self.lose()
        else:
            await self.give_up(self._positions.partitions)

    def left(self) -> None:
        """The membership has ended: what it still had to bring counts no more."""
        self._joined = None

    async def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Commit, tell the application, and own them no more."""
        given_up = sorted(partitions)
        if not given_up:
            return
        await self._commit_passed()
        try:
            await self._call(self._subscription.listeners.on_revoked, given_up)
        except Exception:  # the application hears of it; the group's rebalance goes on
            self._on_assignment(self._positions.partitions - set(given_up))
            raise
        self._on_assignment(self._positions.partitions - set(given_up))

    async def _prepare(self) -> None:
        owned = self._positions.partitions
        if self._membership.cooperative:
            topics = self._subscription.topics
            await self.give_up(p for p in owned if p.topic not in topics)
        else:
            await self.give_up(owned)

    async def _adopt(self, joined: Joined) -> None:
        owned = self._positions.partitions
        assigned = set(joined.partitions)
        if self._membership.cooperative:
            revoked = owned - assigned
            try:
                await self.give_up(revoked)
            finally:  # the next poll finds nothing more to give up
                if revoked - self._positions.partitions:
                    self._membership.request_rejoin("to let others have what was given up")
        if any(partition.topic not in self._subscription.topics for partition in assigned):
            self._membership.request_rejoin("the subscription changed during the rebalance")
        self._on_assignment(assigned)
        self._joined = None
        await self._call(self._subscription.listeners.on_assigned, sorted(assigned - owned))

    async def _call(self, listener: OnRebalance | None, partitions: list[TopicPartition]) -> None:
        if listener is not None:
            await self._invoke(listener, partitions)
