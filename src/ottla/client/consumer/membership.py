"""A consumer's place in its group: joining, being assigned, heartbeats, leaving. The classic protocol.

Rules:
- The group's rebalance waits for us until we ask to join again; we ask only from ``poll`` (by way of the
  core), so that no partition goes while its records are in the application's hands.
- JoinGroup and SyncGroup run in a task that a ``poll`` which gives up early does not cancel.
- Without a heartbeat's answer, or without a ``poll`` (or a step of an iteration) within
  ``max_poll_interval_ms``, the place is lost:
  ``lost`` says so, and what was owned may belong to others already. Who waits in ``poll`` for records polls.
- The leader rejoins when the partitions of the group's topics become more.
Source: ``AbstractCoordinator.java``, ``ConsumerCoordinator.java``, KIP-345, KIP-394, KIP-429.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ottla.client.cluster import Cluster
from ottla.client.consumer.assignors import Assignor, MemberSubscription, assignors_of
from ottla.client.consumer.commits import Identity
from ottla.client.consumer.group_link import GroupLink
from ottla.client.consumer.protocol import (
    PROTOCOL_TYPE,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.client.consumer.settings import ConsumerSettings
from ottla.client.errors import RequestTimeout
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.heartbeat import HeartbeatRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

log = logger(__name__)

JOIN_LAPSE_MS = 5_000
"""How much longer than the rebalance itself an answer to JoinGroup may take."""

_NO_MEMBER = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION})


class Joined(NamedTuple):
    """A completed rebalance, as one member sees it."""

    generation_id: int
    assignor: Assignor
    partitions: list[TopicPartition]


class Membership:
    """One member of one group. ``on_news`` is called when a ``poll`` should look."""

    def __init__(
        self,
        cluster: Cluster,
        link: GroupLink,
        settings: ConsumerSettings,
        on_news: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._link = link
        self._settings = settings
        self._on_news = on_news
        self._assignors = assignors_of(settings.assignors)
        self.cooperative = all(assignor.cooperative for assignor in self._assignors)
        self._member_id = ""
        self._generation_id = -1
        self._task: asyncio.Task[Joined] | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._group_topics: dict[str, int] | None = None
        self.rejoin_reason: str | None = "the first time"
        """Why the next ``poll`` must join; None while there is no need."""
        self.lost = False
        """Whether the place was lost, with all that was owned."""
        self.failure: KafkaError | None = None
        """What no retry helps against; raised by the next ``poll``."""
        self.last_poll = time.monotonic()
        self.iteration: Callable[[], object] = tuple
        """Where the application stands in its iteration over records."""
        self._seen: object = None
        self._waits: set[object] = set()

    @property
    def identity(self) -> Identity:
        """As whom we commit."""
        return Identity(self._generation_id, self._member_id, self._settings.group_instance_id)

    @property
    def member_id(self) -> str:
        """What the coordinator calls us; empty before the first join."""
        return self._member_id

    @property
    def generation_id(self) -> int:
        """The group's generation that we belong to; -1 for none."""
        return self._generation_id

    @property
    def joining(self) -> bool:
        """Whether a rebalance is under way, or its outcome waits to be taken."""
        return self._task is not None

    @property
    def is_asking(self) -> bool:
        """Whether a join or a sync is unanswered: until then the coordinator waits for no heartbeats."""
        return self._task is not None and not self._task.done()

    def needs_attention(self) -> bool:
        """Whether a ``poll`` has something to do here before it hands out records."""
        if self.lost or self.failure is not None:
            return True
        if self._task is not None:
            return self._task.done()
        return self.rejoin_reason is not None

    def request_rejoin(self, reason: str) -> None:
        """Let the next ``poll`` join again."""
        if self.rejoin_reason is None:
            log.debug("rejoin", group=self._link.group, reason=reason)
            self.rejoin_reason = reason
            self._on_news()

    # Joining

    def begin_join(self, topics: list[str], owned: list[TopicPartition]) -> None:
        """Start to join; the outcome is taken by ``take_joined``."""
        reason, self.rejoin_reason = self.rejoin_reason or "", None
        if self._heartbeats is None:
            self._heartbeats = asyncio.get_running_loop().create_task(self._beat())
        self._task = asyncio.get_running_loop().create_task(self._join(topics, owned, reason))
        self._task.add_done_callback(lambda _: self._on_news())

    def take_joined(self) -> Joined | None:
        """The outcome of a join that has ended; None if there is none, or if it must be tried again.

        Raises ``KafkaError`` for what no retry helps against.
        """
        if self._task is None or not self._task.done():
            return None
        task, self._task = self._task, None
        if task.cancelled():
            return None
        error = task.exception()
        if error is None:
            joined = task.result()
            if joined.generation_id != self._generation_id:
                return None  # the place was lost before a poll came
            joined.assignor.on_assignment(joined.partitions, joined.generation_id)
            self.metadata_changed()  # perhaps since they were shared out
            return joined
        self.rejoin_reason = self.rejoin_reason or "the last attempt failed"
        if isinstance(error, KafkaError) and (error.retriable or _join_again(error.code)):
            log.debug("join failed", group=self._link.group, error=str(error))
            return None
        if isinstance(error, KafkaError) and error.code is ErrorCode.FENCED_INSTANCE_ID:
            self.failure = error
        raise error

    async def _join(self, topics: list[str], owned: list[TopicPartition], reason: str) -> Joined:
        settings = self._settings
        while True:
            member = MemberSubscription(
                topics,
                None,
                owned if self.cooperative else [],
                self._generation_id if self.cooperative else -1,
                settings.client_rack or None,
            )
            request = JoinGroupRequest(
                group_id=self._link.group,
                session_timeout_ms=settings.session_timeout_ms,
                rebalance_timeout_ms=settings.max_poll_interval_ms,
                member_id=self._member_id,
                group_instance_id=settings.group_instance_id,
                protocol_type=PROTOCOL_TYPE,
                protocols=[
                    JoinGroupRequestProtocol(
                        name=assignor.name,
                        metadata=encode_subscription(
                            member._replace(user_data=assignor.user_data(topics))
                        ),
                    )
                    for assignor in self._assignors
                ],
                reason=reason[:255],
            )
            wait_ms = settings.max_poll_interval_ms + JOIN_LAPSE_MS
            answer = await self._link.call(
                request, _code, timeout_ms=2 * wait_ms, answer_within_ms=wait_ms
            )
            code = ErrorCode(answer.error_code)
            if code is ErrorCode.MEMBER_ID_REQUIRED:
                self._member_id = answer.member_id
                continue
            if code is not ErrorCode.NONE:
                self._refused(code, bool(owned))
                raise KafkaError(code, f"group {self._link.group}")
            self._member_id = answer.member_id
            self._generation_id = answer.generation_id
            return await self._sync(answer, bool(owned))

    async def _sync(self, joined: Any, owned: bool) -> Joined:
        assignor = next(a for a in self._assignors if a.name == joined.protocol_name)
        assignments: list[SyncGroupRequestAssignment] = []
        self._group_topics = None
        if joined.leader == joined.member_id:
            if not joined.skip_assignment:
                assignments = await self._assign(assignor, joined.members)
            else:
                self._group_topics = await self._partition_counts(_topics(joined.members))
        request = SyncGroupRequest(
            group_id=self._link.group,
            generation_id=self._generation_id,
            member_id=self._member_id,
            group_instance_id=self._settings.group_instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocol_name=assignor.name,
            assignments=assignments,
        )
        wait_ms = self._settings.max_poll_interval_ms + JOIN_LAPSE_MS
        answer = await self._link.call(
            request, _code, timeout_ms=2 * wait_ms, answer_within_ms=wait_ms
        )
        code = ErrorCode(answer.error_code)
        if code is not ErrorCode.NONE:
            self._refused(code, owned)
            raise KafkaError(code, f"group {self._link.group}")
        partitions = decode_assignment(answer.assignment)
        log.info(
            "joined",
            group=self._link.group,
            generation=self._generation_id,
            partitions=len(partitions),
            assignor=assignor.name,
        )
        return Joined(self._generation_id, assignor, partitions)

    async def _assign(self, assignor: Assignor, members: Any) -> list[SyncGroupRequestAssignment]:
        subscriptions = {
            member.member_id: decode_subscription(member.metadata, member.group_instance_id)
            for member in members
        }
        self._group_topics = await self._partition_counts(_topics(members))
        existing = {name: count for name, count in self._group_topics.items() if count}
        assignment = assignor.assign(existing, subscriptions)
        return [
            SyncGroupRequestAssignment(member_id=member, assignment=encode_assignment(partitions))
            for member, partitions in assignment.items()
        ]

    async def _partition_counts(self, topics: set[str]) -> dict[str, int]:
        """0 for topics that do not exist; those that nobody here had heard of are asked for first."""
        metadata = self._cluster.metadata
        self._group_topics = dict.fromkeys(topics, 0)  # asked for from now on
        if self._cluster.add_topics(*topics):
            await self._cluster.refresh()
        return {
            name: len(metadata.topics[name].partitions) if name in metadata.topics else 0
            for name in sorted(topics)
        }

    @property
    def group_topics(self) -> set[str]:
        """What all members together have subscribed to, for the leader; nothing for the others."""
        return set(self._group_topics or ())

    def metadata_changed(self) -> None:
        """The leader looks whether the group's topics have come or grown since the assignment."""
        if self._group_topics is None or self._task is not None:
            return
        topics = self._cluster.metadata.topics
        for name, count in self._group_topics.items():
            if name in topics and len(topics[name].partitions) != count:
                self.request_rejoin(f"topic {name} has another number of partitions")

    def _refused(self, code: ErrorCode, owned: bool) -> None:
        if code in _NO_MEMBER:
            if code is ErrorCode.UNKNOWN_MEMBER_ID:
                self._member_id = ""
            self._generation_id = -1
            self.lost = self.lost or owned

    # Staying

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for records, on any thread: the application is alive, and has all its time again after it."""
        wait = object()  # in a set: one thread may begin to wait while the other is told to end
        self._waits.add(wait)
        try:
            yield
        finally:
            self.last_poll = time.monotonic()
            self._waits.discard(wait)

    def note_life(self) -> None:
        """Who waits for records or goes from one to the next is alive, however long the way to the next ``poll``."""
        place = self.iteration()
        if place != self._seen or self._waits:
            self._seen = place
            self.last_poll = time.monotonic()

    async def _beat(self) -> None:
        settings = self._settings
        while True:
            await asyncio.sleep(settings.heartbeat_interval_ms / 1000)
            if self.is_asking or self._generation_id < 0:
                continue
            self.note_life()
            if time.monotonic() - self.last_poll > settings.max_poll_interval_ms / 1000:
                log.warning(
                    "leaving the group: no poll within max_poll_interval_ms",
                    group=self._link.group,
                    max_poll_interval_ms=settings.max_poll_interval_ms,
                )
                # First, for a poll that comes before the answer finds what it owns no more, and may join anew.
                self._lose("left for want of a poll")
                await self.leave("no poll within max_poll_interval_ms")
                continue
            try:
                await self._heartbeat()
            except KafkaError as error:
                log.warning("no heartbeat", group=self._link.group, error=str(error))

    async def _heartbeat(self) -> None:
        generation_id = self._generation_id
        request = HeartbeatRequest(
            group_id=self._link.group,
            generation_id=generation_id,
            member_id=self._member_id,
            group_instance_id=self._settings.group_instance_id,
        )
        answer = await self._link.call(request, _code, timeout_ms=self._settings.session_timeout_ms)
        code = ErrorCode(answer.error_code)
        if code is ErrorCode.NONE or generation_id != self._generation_id:
            return
        if code is ErrorCode.REBALANCE_IN_PROGRESS:
            if not self.is_asking:
                self.request_rejoin("the group rebalances")
        elif code in _NO_MEMBER:
            if not self.is_asking:
                if code is ErrorCode.UNKNOWN_MEMBER_ID:
                    self._member_id = ""
                self._lose(code.name)
        else:
            self.failure = KafkaError(code, f"heartbeat of group {self._link.group}")
            if code is ErrorCode.FENCED_INSTANCE_ID:
                self._generation_id = -1
            self._on_news()

    def _lose(self, reason: str) -> None:
        self._generation_id = -1
        self.lost = True
        self.rejoin_reason = self.rejoin_reason or reason
        self._on_news()

    # Leaving

    async def close(self, timeout_ms: float) -> None:
        """Stop joining and beating, and leave; a static member stays until its session ends (KIP-345)."""
        if self._heartbeats is not None:
            self._heartbeats.cancel()
            await asyncio.gather(self._heartbeats, return_exceptions=True)
            self._heartbeats = None
        await self.leave("the consumer closes", timeout_ms)

    async def leave(self, reason: str, timeout_ms: float = 5_000) -> None:
        """Tell the coordinator that we go; not being heard is no reason to stay.

        A static member says nothing: it may come back until its session ends.
        """
        self._generation_id = -1
        self._group_topics = None
        self.rejoin_reason = self.rejoin_reason or reason
        member_id = self._member_id
        if self._settings.group_instance_id is None:
            self._member_id = ""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._settings.group_instance_id is not None:
            return
        if not member_id or self._link.node is None:
            return
        request = LeaveGroupRequest(
            group_id=self._link.group,
            member_id=member_id,
            members=[MemberIdentity(member_id=member_id, group_instance_id=None, reason=reason)],
        )
        with contextlib.suppress(RequestTimeout, KafkaError):
            await self._link.call(request, _code, timeout_ms=timeout_ms)


def _code(answer: Any) -> int:
    return int(answer.error_code)


def _join_again(code: ErrorCode) -> bool:
    return code in _NO_MEMBER or code is ErrorCode.REBALANCE_IN_PROGRESS


def _topics(members: Any) -> set[str]:
    return {topic for m in members for topic in decode_subscription(m.metadata).topics}
