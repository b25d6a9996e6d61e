"""Incremental fetch sessions (KIP-227): a Fetch costs what changed, not what is subscribed.

Rules:
- A session remembers the partitions that a client follows, and which of them may have something to say:
  its *dirty* set. A partition leaves the set when a read found nothing new; it comes back when the
  partition changes or the client moves its position in it. What was returned stays dirty, behind the
  others, until the client moves on: nobody starves, and a lost response is read again.
- The cache holds at most ``slots`` sessions. A new one takes the place of a session that has been idle for
  ``evict_after_ms``, else the client gets none and goes on with full fetches. All together follow at most
  ``partitions_max`` partitions: a session that would go beyond is closed, and its client goes on without.
- A session that no Fetch is parked in is told of a partition once: whoever left without a word costs nothing.
- A follower's session hears of appends, too. What is new about a partition but no record (its high watermark) makes it
  dirty and wakes no parked Fetch, unless consumers read from followers: it goes with the next response.
- The leader counts on every partition of a follower's session having been asked for with each Fetch: before a partition
  that was clean becomes dirty, it is told until when the follower was there.
- Whatever a follower names is in the response: it passes over what answers an earlier Fetch where it has moved on since.
- Followers' sessions take the places of consumers' where there is none left, never the other way round.
Source: ``FetchSession.scala``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.fetch import FetchPartition, FetchRequest
from ottla.network.stepping import Steps, run
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.replication.partition import Partition

NO_SESSION = 0
NO_REPLICA = -1
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
EPOCH_MAX = 2**31 - 1

STEP_PARTITIONS = 1000
"""How many partitions are taken in before others have their turn: about a millisecond."""

PARTITIONS_MAX = 500_000
"""What all sessions may follow together; each takes about 400 bytes."""

ANY_EPOCH = -1
"""What a follower sends as the leader's epoch that does not know it."""

Key = tuple[str | bytes, int]
"""A topic's id (Fetch 13 and newer) or name, and a partition's index."""


class Parked(Protocol):
    """A Fetch that waits."""

    def overtaken(self) -> None:
        """Another one has come in its session."""
        ...


class Position:
    """One partition that a client follows, and where it is in it."""

    __slots__ = (
        "current_leader_epoch",
        "fetch_offset",
        "index",
        "is_named",
        "last_fetched_epoch",
        "log_start_offset",
        "max_bytes",
        "partition",
        "sent_high_watermark",
        "sent_log_start",
        "topic",
        "topic_id",
    )

    def __init__(self, topic: str, topic_id: bytes) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition: Partition | None = None
        self.sent_high_watermark = -1
        self.sent_log_start = -1
        self.is_named = False
        """Whether a follower has said where it is, and was not told anything of the partition since."""

    def move(self, wanted: FetchPartition) -> None:
        """Take the client's word for where it is."""
        self.index = wanted.partition
        self.fetch_offset = wanted.fetch_offset
        self.max_bytes = wanted.partition_max_bytes
        self.current_leader_epoch = wanted.current_leader_epoch
        self.last_fetched_epoch = wanted.last_fetched_epoch
        self.log_start_offset = wanted.log_start_offset


class FetchContext:
    """The partitions that one Fetch is about; full, and forgotten afterwards."""

    session_id = NO_SESSION

    def __init__(self, replica_id: int = NO_REPLICA) -> None:
        self.replica_id = replica_id
        """The follower's; below 0 for a consumer."""
        self.heard_ms = 0
        """When its last Fetch came, by a steady clock."""
        self.wants_high_watermark = False
        self.positions: dict[Key, Position] = {}
        self.dirty: dict[Key, None] = {}
        self.on_change: Callable[[], None] | None = None
        self.parked: Parked | None = None
        """The Fetch that waits in it."""

    def follow(self, request: FetchRequest, version: int) -> Steps[None]:
        """Take in the request's topics, adding and moving, and drop the forgotten ones."""
        by_id = version >= 13
        left = STEP_PARTITIONS
        for topic in request.forgotten_topics_data:
            for index in topic.partitions:
                self._drop((topic.topic_id if by_id else topic.topic, index))
            left -= len(topic.partitions)
            if left <= 0:
                left = STEP_PARTITIONS
                yield
        for wanted in request.topics:
            for partition in wanted.partitions:
                left -= 1
                if left <= 0:
                    left = STEP_PARTITIONS
                    yield
                key = (wanted.topic_id if by_id else wanted.topic, partition.partition)
                position = self.positions.get(key)
                if position is None:
                    position = self.positions[key] = Position(
                        wanted.topic, wanted.topic_id if by_id else ZERO_ID
                    )
                position.move(partition)
                position.is_named = self.replica_id >= 0
                self.dirty[key] = None

    def due(self) -> Iterator[tuple[Key, Position]]:
        """The partitions to look at now; the dirty set may change meanwhile."""
        for key in tuple(self.dirty):
            position = self.positions.get(key)
            if position is not None:
                yield key, position

    def attach(self, key: Key, position: Position, partition: Partition | None) -> None:
        """Follow this object from now on: a topic made again has new ones."""
        if position.partition is not partition:
            if position.partition is not None:
                position.partition.remove_reader(self)
            position.partition = partition
            if partition is not None:
                partition.add_reader(self)
                if self.replica_id >= 0:
                    partition.add_tail_reader(self)

    def partition_changed(self, partition: Partition) -> None:
        """What the partitions call (``replication.replica.Reader``)."""
        wakes = self.replica_id < 0
        for topic in (partition.topic_id, partition.topic):
            key = (topic, partition.index)
            position = self.positions.get(key)
            if position is not None:
                if self.replica_id >= 0:
                    if key not in self.dirty:
                        partition.follower_was_quiet(self.replica_id, self.heard_ms)
                    wakes = wakes or self.has_news(position, partition)
                self.dirty[key] = None
                if self.on_change is None and position.partition is partition:
                    partition.remove_reader(self)  # the next read follows it again
                    position.partition = None
        if wakes and self.on_change is not None:
            self.on_change()

    def has_news(self, position: Position, partition: Partition) -> bool:
        """Whether there is something that a follower is not to wait for until the next record comes."""
        told_epoch = position.current_leader_epoch
        return (
            not partition.is_leader
            or told_epoch not in (ANY_EPOCH, partition.leader_epoch)
            or position.fetch_offset < partition.log.log_end_offset
            or self.must_tell(position, partition.high_watermark, partition.log.log_start_offset)
            or partition.would_let_join(self.replica_id)
        )

    def must_tell(self, position: Position, high_watermark: int, log_start: int) -> bool:
        """Whether to answer a follower that has all records only to tell it this."""
        if self.replica_id < 0 or position.sent_log_start < 0:
            return False
        return position.sent_log_start != log_start or (
            self.wants_high_watermark and position.sent_high_watermark != high_watermark
        )

    def settle(self, key: Key, *, quiet: bool) -> None:
        """After a read. A full response names every partition, so all of them stay to be looked at."""

    def includes(self, position: Position, high_watermark: int, log_start: int) -> bool:
        """Whether a partition without records is in the response: always, in a full one."""
        return True

    def close(self) -> None:
        """Follow nothing any more."""
        for position in self.positions.values():
            if position.partition is not None:
                position.partition.remove_reader(self)
                position.partition = None
        self.on_change = None

    def finish(self) -> None:
        """The response is made."""
        self.close()

    def _drop(self, key: Key) -> None:
        position = self.positions.pop(key, None)
        self.dirty.pop(key, None)
        if position is not None and position.partition is not None:
            position.partition.remove_reader(self)


class FetchSession(FetchContext):
    """A context that the cache keeps between Fetches; its first response is full."""

    def __init__(self, session_id: int, by_id: bool, replica_id: int = NO_REPLICA) -> None:
        super().__init__(replica_id)
        self.session_id = session_id
        self.by_id = by_id
        self.epoch = INITIAL_EPOCH + 1
        self.used_ms = 0
        self.is_closed = False
        self._incremental = False

    def includes(self, position: Position, high_watermark: int, log_start: int) -> bool:
        """Incrementally, only what the client has not been told."""
        return (
            not self._incremental
            or position.is_named
            or position.sent_high_watermark != high_watermark
            or position.sent_log_start != log_start
        )

    def settle(self, key: Key, *, quiet: bool) -> None:
        """A quiet partition is clean, any other goes behind those not looked at yet."""
        if self._incremental:
            self.dirty.pop(key, None)
            if not quiet:
                self.dirty[key] = None

    def finish(self) -> None:
        """Later responses say what changed."""
        self._incremental = True
        self.on_change = None
        if self.is_closed:  # while a Fetch was parked in it, which has looked once more
            self.close()

    def close(self) -> None:
        """Follow nothing any more; there will be no other Fetch."""
        self.is_closed = True
        super().close()

    def next_epoch(self) -> None:
        """Count the request; the numbers go round past 2**31 - 1, leaving out 0."""
        self.epoch = 1 if self.epoch == EPOCH_MAX else self.epoch + 1


class FetchSessions:
    """The sessions of a broker."""

    def __init__(
        self,
        slots: int,
        new_id: Callable[[], int],
        evict_after_ms: int = 120_000,
        partitions_max: int = PARTITIONS_MAX,
    ) -> None:
        """``new_id`` gives random positive 31-bit numbers."""
        self._slots = slots
        self._partitions_max = partitions_max
        self._new_id = new_id
        self._evict_after_ms = evict_after_ms
        self._sessions: dict[int, FetchSession] = {}  # least recently used first

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self, request: FetchRequest, version: int, now_ms: int, replica_id: int = NO_REPLICA
    ) -> FetchContext:
        """As ``open_in_steps``, in one go."""
        return run(self.open_in_steps(request, version, now_ms, replica_id))

    def open_in_steps(
        self,
        request: FetchRequest,
        version: int,
        now_ms: int,
        replica_id: int = NO_REPLICA,
        heard_ms: int = 0,
    ) -> Steps[FetchContext]:
        """The context of a Fetch, with its topics taken in, some thousand in each step.

        A follower's tells its ``replica_id``, and when it came (``heard_ms``, by a steady clock).

        Between the steps the session may be closed: what it takes in then is forgotten when the Fetch ends.
        Errors: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
        """
        if request.session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            self._close(request.session_id)
            context = FetchContext(replica_id)
            if request.session_epoch == INITIAL_EPOCH and version >= 7 and request.topics:
                context = self._create(version >= 13, now_ms, replica_id) or context
        else:
            context = self._resume(request, version, now_ms)
        context.heard_ms = heard_ms
        followed = len(context.positions)
        yield from context.follow(request, version)
        if context.session_id and not context.positions:
            self._close(context.session_id)
            # Nothing is left to follow: the client learns that the session is over.
            return FetchContext(replica_id)
        if context.session_id and len(context.positions) > followed and self._is_too_much():
            self._close(context.session_id)
            if followed:
                raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
            context = FetchContext(replica_id)
            yield from context.follow(request, version)
        return context

    def overtake(self, session_id: int) -> None:
        """Another Fetch comes in the session: whoever waits in it does so no more."""
        session = self._sessions.get(session_id)
        if session is not None and session.parked is not None:
            session.parked.overtaken()

    def _is_too_much(self) -> bool:
        followed = sum(len(session.positions) for session in self._sessions.values())
        return followed > self._partitions_max

    def _resume(self, request: FetchRequest, version: int, now_ms: int) -> FetchSession:
        session = self._sessions.get(request.session_id)
        if session is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != request.session_epoch:
            raise KafkaError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if session.by_id != (version >= 13):
            raise KafkaError(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        session.next_epoch()
        session.used_ms = now_ms
        self._sessions[session.session_id] = self._sessions.pop(session.session_id)
        return session

    def _create(self, by_id: bool, now_ms: int, replica_id: int) -> FetchSession | None:
        if len(self._sessions) >= self._slots:
            evicted = self._evictable(now_ms, replica_id)
            if evicted is None:
                return None
            self._close(evicted.session_id)
        session_id = self._new_id()
        while session_id == NO_SESSION or session_id in self._sessions:
            session_id = self._new_id()
        session = self._sessions[session_id] = FetchSession(session_id, by_id, replica_id)
        session.used_ms = now_ms
        return session

    def _evictable(self, now_ms: int, replica_id: int) -> FetchSession | None:
        """The least recently used, if it has been idle; for a follower, else, a consumer's."""
        oldest = next(iter(self._sessions.values()), None)
        if oldest is None or now_ms - oldest.used_ms >= self._evict_after_ms:
            return oldest
        if replica_id < 0:
            return None
        return next((one for one in self._sessions.values() if one.replica_id < 0), None)

    def _close(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.close()
