"""What the asynchronous and the synchronous consumer have in common.

The application drives by ``poll``: it hands out records and, in between, sees to the group. Fetching, finding
positions, heartbeats and auto-commit go on in the background of the loop. ``take`` alone may be called from
another thread; ``attention`` says when it is not enough and ``poll`` must run on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ottla.client.cluster import Cluster
from ottla.client.consumer.commits import CommittedOffsets, Identity
from ottla.client.consumer.cursor import Cursor
from ottla.client.consumer.failures import Failures
from ottla.client.consumer.fetched import Chunk
from ottla.client.consumer.fetcher import Fetcher
from ottla.client.consumer.group_link import GroupLink
from ottla.client.consumer.membership import Membership
from ottla.client.consumer.position_keeper import PositionKeeper
from ottla.client.consumer.positions import PartitionState, Phase, Positions
from ottla.client.consumer.rebalancing import Rebalancing
from ottla.client.consumer.settings import ConsumerSettings
from ottla.client.consumer.subscription import Listeners, Mode, OnRebalance, Subscription
from ottla.client.errors import CommitFailed, RequestTimeout
from ottla.client.settings import ConnectionSettings
from ottla.client.types import OffsetAndMetadata, TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

log = logger(__name__)

NOTHING = OffsetAndMetadata(-1)
TURN_RECORDS = 2_000
"""After so many records without a wait a consumer under asyncio lets the event loop turn."""


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class ConsumerCore:
    """Everything runs on one loop, except ``take`` and the cursor."""

    def __init__(self, connection: ConnectionSettings, settings: ConsumerSettings) -> None:
        self.settings = settings
        self.cluster = Cluster(connection)
        self.positions = Positions()
        self.subscription = Subscription()
        self.cursor = Cursor()
        self.attention = True
        """Whether ``poll`` has more to do than to hand out what is there."""
        self.closed = False
        self.stopped = False
        """Whether even callbacks can use the consumer no more."""
        self.call_listener: Callable[[OnRebalance, list[TopicPartition]], Any] = _call_listener
        self._news = asyncio.Event()
        self.on_news: Callable[[], object] | None = None
        """Called, on the loop, when there may be something for a ``poll`` that waits elsewhere."""
        self.clear_up: Callable[[], object] = tuple
        """Called, on the loop, after a poll was interrupted."""
        self.failures = Failures()
        self.fetcher = Fetcher(
            self.cluster, self.positions, settings, self._fetched, self._fail, _now_ms
        )
        self.committed_offsets: CommittedOffsets | None = None
        self.membership: Membership | None = None
        self._rebalancing: Rebalancing | None = None
        if settings.group is not None:
            link = GroupLink(self.cluster, settings.group)
            self.committed_offsets = CommittedOffsets(self.cluster, link)
            self.membership = Membership(self.cluster, link, settings, self._call_for_attention)
            self.membership.iteration = lambda: self.cursor.place
            self._rebalancing = Rebalancing(
                self.membership,
                self.positions,
                self.subscription,
                self._commit_passed,
                self._set_assignment,
                lambda listener, partitions: self.call_listener(listener, partitions),
            )
        self._keeper = PositionKeeper(
            self.cluster,
            self.positions,
            self.committed_offsets,
            settings,
            self.fetcher.maintain,
            self._fail,
            _now_ms,
        )
        self._commit_lock = asyncio.Lock()
        self._last_committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._commits: set[asyncio.Task[None]] = set()
        self._started = False
        self._unturned = 0
        self._interrupted = False

    # Lifetime

    def start(self) -> None:
        """Begin; on the loop."""
        if self._started or self.closed:
            return
        self._started = True
        self.cluster.on_update.append(self._metadata_changed)
        self.cluster.start()
        if self.settings.auto_commit:
            self._spawn(self._auto_commit())

    async def close(self, *, clean: bool, timeout_ms: float) -> None:
        """Commit (everything that was handed out, if ``clean``), leave the group and stop."""
        if self.closed:
            return
        self.closed = True
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                if self._commits:  # asked for before, in this order
                    await asyncio.wait(self._commits)
                if clean:
                    self.positions.pass_all()
                if self._rebalancing is not None and self.subscription.shared:
                    await self._rebalancing.give_up_all()
                else:
                    await self._commit_passed()
        except (TimeoutError, KafkaError) as error:
            log.warning("closing without a last commit", error=str(error))
        finally:
            self.stopped = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.fetcher.close()
            try:
                await self._keeper.close()
                if self.membership is not None:
                    await self.membership.close(min(timeout_ms, 5_000))
            finally:
                await self.cluster.close()
                self.tell()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def check_open(self) -> None:
        """Raise ``RuntimeError`` on a closed consumer."""
        if self.closed:
            raise RuntimeError("the consumer is closed")

    # Subscription; on the loop

    async def subscribe(
        self, topics: Sequence[str] | None, pattern: str | re.Pattern[str] | None, how: Listeners
    ) -> None:
        """Read topics; what was assigned by hand is let go."""
        self.check_open()
        if self.subscription.mode is Mode.MANUAL and len(self.positions):
            raise RuntimeError("partitions are assigned by hand: unsubscribe first")
        if pattern is not None:
            self.subscription.set_pattern(pattern, how)
        else:
            self.subscription.set_topics(topics or (), how)
        self.cluster.all_topics = pattern is not None
        self._topics_changed("the subscription changed")
        self.start()
        self.cluster.request_refresh()

    async def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions; no group shares them out."""
        self.check_open()
        if self.subscription.shared:
            raise RuntimeError("topics are subscribed: unsubscribe first")
        wanted = [TopicPartition(*partition) for partition in partitions]
        self.subscription.set_manual(wanted)
        self._set_assignment(wanted)
        self.start()
        self.cluster.request_refresh()

    async def unsubscribe(self) -> None:
        """Read nothing; leaves the group."""
        if self._rebalancing is not None and self.membership is not None:
            if self.subscription.shared:
                await self._rebalancing.give_up_all()
            await self.membership.leave("unsubscribed")
            self._rebalancing.left()
        self.subscription.clear()
        self.cluster.all_topics = False
        self._set_assignment([])

    def _topics_changed(self, reason: str) -> None:
        self._take_interest()
        if self.membership is not None:
            self.membership.request_rejoin(reason)
            self._call_for_attention()  # a poll may wait with a join that is due until there is a topic
        elif self.subscription.shared:
            self._set_assignment(self.subscription.all_partitions(self.cluster.metadata))

    def _set_assignment(self, partitions: Iterable[TopicPartition]) -> None:
        self.positions.assign(partitions)
        owned = self.positions.partitions
        for partition in self._last_committed.keys() - owned:
            del self._last_committed[partition]  # others commit it now
        self._take_interest()
        self._keeper.leaders_changed()
        self.fetcher.maintain()

    def _take_interest(self) -> None:
        """Ask for no topic that nobody here reads any more: the question has the broker make a deleted one anew."""
        topics = self.subscription.topics | {topic for topic, _ in self.positions.partitions}
        if self.membership is not None:
            topics |= self.membership.group_topics
        self.cluster.set_topics(topics)

    def _metadata_changed(self) -> None:
        if self.subscription.match(self.cluster.metadata):
            self._topics_changed("other topics match the pattern")
        elif self.membership is None and self.subscription.shared:
            found = self.subscription.all_partitions(self.cluster.metadata)
            if not self.positions.partitions >= set(found):
                self._set_assignment(self.positions.partitions | set(found))
        if self.membership is not None:
            self.membership.metadata_changed()
        self._keeper.leaders_changed()
        self.fetcher.maintain()

    # Polling

    def take(self, max_records: int) -> tuple[list[Chunk], bool]:
        """What is there, and whether ``fetcher.maintain`` should be called (on the loop)."""
        chunks = self.cursor.rest(max_records)
        if chunks:
            return chunks, False
        return self.fetcher.take(max_records)

    def take_on_loop(self, max_records: int) -> list[Chunk]:
        """What is there; nothing if ``poll`` is needed: for attention, or to let the event loop turn."""
        if self.attention or self.closed or self._unturned >= TURN_RECORDS:
            return []
        chunks, freed = self.take(max_records)
        if freed:
            self.fetcher.maintain()
        self._count(chunks)
        return chunks

    def _count(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self._unturned += len(chunk.records)

    def polled(self) -> None:
        """The application is alive, and done with what it was given."""
        self.positions.pass_all()
        if self.membership is not None:
            self.membership.last_poll = time.monotonic()

    def take_back(self) -> None:
        """An exception that is none of ours (a signal's, say) has cut off a poll between any two steps.

        On the thread that polled: what did not reach the application is fetched again by its next ``poll``.
        """
        for state in self.positions:
            state.take_back()
        self.doubt()

    def doubt(self) -> None:
        """What was fetched may be lost: the next ``poll`` fetches from the position on."""
        self._interrupted = True
        self.attention = True  # last: ``attend`` looks for the reason after it has let this one go

    def waiting(self) -> AbstractContextManager[None]:
        """Around a wait for records: the group is to know that the application is alive."""
        return contextlib.nullcontext() if self.membership is None else self.membership.waiting()

    async def poll(self, timeout: float | None, max_records: int) -> None:
        """Load the cursor with at least one record, or with none after ``timeout`` seconds.

        They go through the cursor so that a caller who is interrupted finds them there the next time.
        Runs rebalance callbacks. Raises ``KafkaError`` for what the application has to know,
        ``RuntimeError`` when nothing is subscribed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.subscription.mode is Mode.NONE:
            raise RuntimeError("subscribe to topics or assign partitions first")
        if self._unturned >= TURN_RECORDS:
            self._unturned = 0
            await asyncio.sleep(0)  # what has come is read, and others have their turn
        while True:
            self.check_open()
            self._news.clear()
            await self.attend()
            if self.cursor.has_records():
                return
            chunks, freed = self.fetcher.take(max_records)
            if freed:
                self.fetcher.maintain()
            if any(chunk.records for chunk in chunks):
                self.cursor.load(chunks)
                self._count(chunks)
                return
            for chunk in chunks:  # control batches and the like: nothing to hand out
                chunk.state.handed_out(chunk.end_offset, chunk.epoch)
                chunk.state.pass_handed_out()
            if chunks or self.attention:
                continue
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                await asyncio.sleep(0)
                return
            try:
                self._unturned = 0
                with self.waiting():
                    async with asyncio.timeout(left):
                        await self._news.wait()
            except TimeoutError:
                return

    async def attend(self) -> None:
        """See to the group and to failures; what a poll does before it looks for records."""
        self.attention = False
        if self._interrupted:
            self._interrupted = False
            self.clear_up()
            for state in self.positions:
                state.fetch_again()
            self.fetcher.maintain()
        try:
            self.failures.raise_next()
        except KafkaError:
            self.attention = True  # there may be another
            raise
        if self._rebalancing is not None and self.subscription.shared:
            try:
                await self._rebalancing.attend()
            except BaseException:
                self.attention = True
                raise
            if self.membership is not None and self.membership.needs_attention():
                self.attention = bool(self.subscription.topics)

    def _call_for_attention(self) -> None:
        self.attention = True
        self.tell()

    def _fetched(self) -> None:
        self._keeper.kick()  # an answer may have put a position in doubt
        self.tell()

    def tell(self) -> None:
        """Have who waits in ``poll`` look again."""
        self._news.set()
        if self.on_news is not None:
            self.on_news()

    def _fail(self, error: KafkaError, states: Iterable[PartitionState]) -> None:
        self.failures.add(error, states)
        self._call_for_attention()

    # Committing; on the loop

    @property
    def identity(self) -> Identity:
        """As whom offsets are committed."""
        if self.membership is None or not self.subscription.shared:
            return Identity()
        return self.membership.identity

    def committer(self) -> CommittedOffsets:
        """The group's offsets; raises ``RuntimeError`` for a consumer without a group."""
        if self.committed_offsets is None:
            raise RuntimeError("a consumer without a group has no committed offsets")
        return self.committed_offsets

    async def commit(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], timeout_ms: float
    ) -> None:
        """Commit, after the commits that were asked for before; as who we are now."""
        if (refusal := self._refusal(offsets)) is not None:
            raise refusal
        await self._commit_as(self.identity, offsets, timeout_ms)

    def _refusal(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> CommitFailed | None:
        """Why they cannot be ours to commit.

        An empty group would take them of nobody in particular; behind a join they would wait for its answer, and be of
        a generation that has gone then (``ConsumerCoordinator.sendOffsetCommitRequest``).
        """
        membership = self.membership
        if not offsets or membership is None or not self.subscription.shared:
            return None
        if membership.generation_id < 0:
            what = "no place in the group: poll to join it"
            return CommitFailed(ErrorCode.UNKNOWN_MEMBER_ID, what)
        if membership.is_asking:
            what = "the group rebalances: poll to take part"
            return CommitFailed(ErrorCode.REBALANCE_IN_PROGRESS, what)
        return None

    async def _commit_as(
        self,
        identity: Identity,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        timeout_ms: float,
    ) -> None:
        """It may have to wait for another, and a rebalance give the partitions to somebody else meanwhile."""
        self.committer()
        async with self._commit_lock:
            await self._commit(identity, offsets, timeout_ms)
            for partition, committed in offsets.items():
                state = self.positions.find(partition)
                if state is not None:
                    state.committed(committed.offset, committed.leader_epoch)

    async def _commit(
        self,
        identity: Identity,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        timeout_ms: float,
    ) -> None:
        await self.committer().commit(offsets, identity, timeout_ms=timeout_ms)
        owned = self.positions.partitions  # what went meanwhile is committed by others now
        self._last_committed.update((at, offsets[at]) for at in offsets.keys() & owned)

    async def _commit_passed(self) -> None:
        if not self.settings.auto_commit:
            return
        async with self._commit_lock:
            # What is passed, and as whom it is committed, is known once no other commit is under way.
            offsets = {
                partition: offset
                for partition, offset in self.positions.passed().items()
                if self._last_committed.get(partition, NOTHING).offset != offset.offset
            }
            if not offsets:
                return
            try:
                if (refusal := self._refusal(offsets)) is not None:
                    raise refusal
                timeout_ms = self.cluster.settings.request_timeout_ms
                await self._commit(self.identity, offsets, timeout_ms)
            except KafkaError as error:
                log.warning("auto-commit failed", group=self.settings.group, error=str(error))

    async def _auto_commit(self) -> None:
        while True:
            await asyncio.sleep(self.settings.auto_commit_interval_ms / 1000)
            membership = self.membership
            between_generations = membership is not None and (
                membership.joining or membership.generation_id < 0
            )
            if not (self.subscription.shared and between_generations):
                await self._commit_passed()

    # Positions; on the loop

    async def assigned(self) -> None:
        """Wait until a consumer without a group has its partitions; others are told by ``poll``."""
        if self.membership is None and self.subscription.mode is Mode.TOPICS:
            await self.cluster.wait_for(
                lambda: len(self.positions) or None,
                self.cluster.settings.request_timeout_ms,
                f"partitions of {', '.join(sorted(self.subscription.topics))}",
            )

    async def position(self, partition: TopicPartition, timeout_ms: float) -> int:
        """The next offset to be handed out, once it is known; ``RequestTimeout`` if it does not get known."""
        state = self.positions.get(partition)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                while state.phase in (Phase.COMMITTED, Phase.RESET):
                    self.failures.raise_next()
                    await self._keeper.round_done()
        if state.position < 0:
            raise RequestTimeout(f"{partition}: no position within {timeout_ms:.0f} ms")
        return state.position

    def commit_later(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], on_commit: Any | None
    ) -> None:
        """Commit in the background; ``on_commit`` is called with the offsets and the error, if any."""
        identity, refusal = self.identity, self._refusal(offsets)

        async def work() -> None:
            failure: KafkaError | None = None
            try:
                if refusal is not None:
                    raise refusal
                await self._commit_as(identity, offsets, self.cluster.settings.request_timeout_ms)
            except KafkaError as error:
                failure = error
                log.warning("commit failed", group=self.settings.group, error=str(error))
            if on_commit is not None:
                on_commit(dict(offsets), failure)

        self.start()
        task = self._spawn(work())
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Hand out nothing of them; what an iteration holds already is fetched again later."""
        for partition in partitions:
            state = self.positions.get(partition)
            state.paused = True
            if self.cursor.holds(state):
                state.fetch_again()  # what is sought or doubted meanwhile stays so
        self.fetcher.maintain()  # what is buffered of them uses up nobody's room any more

    def resumed(self) -> None:
        """A partition is not paused any more: what was fetched of it may be handed out."""
        self.tell()
        self.fetcher.maintain()

    def moved(self) -> None:
        """Positions were changed by the application."""
        self._keeper.kick()
        self.fetcher.maintain()


async def _call_listener(listener: OnRebalance, partitions: list[TopicPartition]) -> None:
    result = listener(partitions)
    if hasattr(result, "__await__"):
        await result
