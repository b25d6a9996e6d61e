"""What a follower asks one leader for next: positions, an incremental session, delays. Sans-IO.

Rules:
- A position is an acknowledgement: with ``durability=disk`` a partition is not asked for while its log has an end
  that is not flushed. Whoever carries the requests has it flushed (``appended``, ``unflushed``).
- One partition's failure delays that partition only. The first delays are short: after a failover, leader and
  follower hear of it at different moments.
- An incremental session (KIP-227) makes a request cost what changed. Two requests may be under way: see
  ``may_send_another``.

Sources: ``RemoteLeaderEndPoint``, ``FetchSessionHandler``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    ReplicaState,
)
from ottla.replication.copies import Copy, Cut, Limits, Position, State
from ottla.replication.quota import ReplicationQuota, is_throttled
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.replication.replica import Replica

NO_SESSION = 0
INITIAL_EPOCH = 0
SESSION_EPOCH_MAX = 2**31 - 1

IN_FLIGHT_MAX = 2

FIRST_DELAY_S = 0.01
"""The delay after a first failure; it doubles up to ``replica.fetch.backoff.ms``."""

Key = tuple[str | bytes, int]
"""A topic's id (Fetch 13 and newer) or name, and a partition's index."""


class Sent:
    """A request that is under way."""

    __slots__ = ("is_full", "outdated")

    def __init__(self, is_full: bool) -> None:
        self.is_full = is_full
        self.outdated: set[Key] = set()
        """Partitions whose position a later request has changed."""


class FetchPlan:
    """The partitions that are copied from one leader over one connection."""

    def __init__(
        self,
        leader_id: int,
        *,
        node_id: int,
        throttle: ReplicationQuota | None = None,
    ) -> None:
        """``throttle`` is for replicas that are behind and whose topic says so."""
        self.leader_id = leader_id
        self._node_id = node_id
        self._throttle = throttle
        self._copies: dict[tuple[str, int], Copy] = {}
        self._keyed: dict[Key, Copy] = {}
        self._by_id = False
        self._dirty: dict[Key, None] = {}
        self._throttled: set[Key] = set()
        self._unflushed: dict[Key, None] = {}
        self._known: dict[Key, Position] = {}
        self._unheard: set[Key] = set()
        """Partitions of which an answer was passed over: the leader takes them for told, until they are named again."""
        self._session_id = NO_SESSION
        self._session_epoch = INITIAL_EPOCH
        self._is_refused = False
        """Whether the leader keeps no session for us."""
        self._sent: deque[Sent] = deque()
        self._delayed: list[tuple[float, int, Copy]] = []
        self._delays = 0
        self._backoff_s = 1.0
        self.appended: dict[Replica, None] = {}
        """The replicas that records were appended to, for the caller to have flushed; it empties this."""
        self.cuts: list[Cut] = []
        """What the caller is to cut, with ``cut``; it empties this."""
        self.asking: list[Copy] = []
        """Of what the caller is to ask where the leader's log starts and ends; it empties this."""
        self.failed: list[Replica] = []
        """Replicas whose own log failed, for the caller to tell of; it empties this."""
        self.starting: dict[Copy, None] = {}
        """Partitions whose log is to start later, since the leader's does."""

    # The partitions

    def __len__(self) -> int:
        return len(self._copies)

    def __iter__(self) -> Iterator[Copy]:
        return iter(tuple(self._copies.values()))

    def get(self, topic: str, index: int) -> Copy | None:
        """The partition, if it is copied from this leader."""
        return self._copies.get((topic, index))

    def add(self, replica: Replica) -> None:
        """Copy it from now on, in the epoch that it has; nothing if that is done already."""
        name = (replica.topic, replica.index)
        known = self._copies.get(name)
        if known is not None:
            if known.replica is replica and known.leader_epoch == replica.leader_epoch:
                return
            self.remove(known.replica)
        copy = self._copies[name] = Copy(replica)
        key = self._key_of(replica)
        self._keyed[key] = copy
        self._dirty[key] = None

    def remove(self, replica: Replica) -> None:
        """Copy it no more; nothing if it is another one's, or not here."""
        name = (replica.topic, replica.index)
        copy = self._copies.get(name)
        if copy is None or copy.replica is not replica:
            return
        del self._copies[name]
        self.starting.pop(copy, None)
        key = self._key_of(replica)
        self._keyed.pop(key, None)
        self._throttled.discard(key)
        self._dirty[key] = None

    def is_current(self, copy: Copy) -> bool:
        """Whether what the leader says in the copy's epoch still counts."""
        replica = copy.replica
        return (
            self._copies.get((replica.topic, replica.index)) is copy
            and replica.leader_epoch == copy.leader_epoch
            and replica.leader_id == self.leader_id
        )

    def _key_of(self, replica: Replica) -> Key:
        return (replica.topic_id if self._by_id else replica.topic, replica.index)

    def _name_by(self, by_id: bool) -> None:
        """Name topics by id, or not. A session cannot change that."""
        if by_id == self._by_id:
            return
        self._by_id = by_id
        self._keyed = {self._key_of(copy.replica): copy for copy in self}
        self._begin_session()

    # Asking

    @property
    def can_name_ids(self) -> bool:
        """Whether all topics have ids (those of long ago, in a Kafka cluster, may have none)."""
        return all(copy.replica.topic_id != ZERO_ID for copy in self)

    @property
    def may_send_another(self) -> bool:
        """Whether a request may follow one that is not answered: what is new then need not wait for it."""
        return not self._sent or (
            len(self._sent) < IN_FLIGHT_MAX
            and self._session_id != NO_SESSION
            and self._session_epoch != INITIAL_EPOCH
        )

    @property
    def has_news(self) -> bool:
        """Whether a partition has a position, to be told to the leader, that it was not told."""
        if self._throttled and (self._throttle is None or not self._throttle.is_exceeded):
            return True
        for key in self._dirty:
            copy = self._keyed.get(key)
            if copy is None or copy.state is not State.READY:
                continue
            replica = copy.replica
            is_flushed = replica.acknowledged_end_offset >= replica.log.log_end_offset
            if is_flushed and self._known.get(key) != copy.position:
                return True
        return False

    def next_due(self, now: float) -> float | None:
        """When (seconds, as ``now``) a delayed partition has waited long enough; None if there is none."""
        self._wake(now)
        return self._delayed[0][0] if self._delayed else None

    @property
    def unflushed(self) -> list[Replica]:
        """What was left out of the last request, since its log's end is not flushed."""
        found = [self._keyed.get(key) for key in self._unflushed]
        return [copy.replica for copy in found if copy is not None]

    @property
    def is_throttling(self) -> bool:
        """Whether partitions were left out of the last request for the quota's sake."""
        return bool(self._throttled)

    def next_fetch(
        self, limits: Limits, now: float, *, version: int, broker_epoch: int
    ) -> FetchRequest | None:
        """The next request; None while there is nothing to ask for."""
        if self._sent and not self.may_send_another:
            return None
        self._backoff_s = limits.backoff_ms / 1000
        self._name_by(version >= 13)
        self._wake(now)
        is_full = self._session_epoch == INITIAL_EPOCH
        if is_full:
            self._known.clear()
            self._dirty = dict.fromkeys(self._keyed)
        else:
            self._dirty.update(dict.fromkeys(self._throttled))
            self._dirty.update(self._unflushed)
        self._throttled.clear()
        self._unflushed.clear()
        wanted, forgotten = self._changes()
        if not self._known:
            self._begin_session()  # with nothing to follow the leader would end it, and keep us waiting
            return None
        request = FetchRequest(
            # A session is there once the first request is answered, and others may follow this one only then.
            max_wait_ms=0 if is_full and not self._is_refused else limits.wait_max_ms,
            min_bytes=limits.min_bytes,
            max_bytes=limits.response_max_bytes,
            session_id=self._session_id,
            session_epoch=self._session_epoch,
            topics=self._topics(wanted, limits.max_bytes),
            forgotten_topics_data=[] if is_full else self._forgotten(forgotten),
        )
        if version >= 15:
            request.replica_state = ReplicaState(
                replica_id=self._node_id, replica_epoch=broker_epoch
            )
        else:
            request.replica_id = self._node_id
        for earlier in self._sent:
            earlier.outdated.update(wanted, forgotten)
        self._sent.append(Sent(is_full))
        if not is_full:
            self._session_epoch = (
                1 if self._session_epoch == SESSION_EPOCH_MAX else self._session_epoch + 1
            )
        return request

    def _changes(self) -> tuple[dict[Key, Position], list[Key]]:
        """What the leader has to be told: new positions, and what is not asked for any more."""
        wanted: dict[Key, Position] = {}
        forgotten: list[Key] = []
        known = self._known
        for key in self._dirty:
            copy = self._keyed.get(key)
            position = None
            if copy is not None and copy.state is State.READY:
                replica = copy.replica
                if replica.acknowledged_end_offset < replica.log.log_end_offset:
                    self._unflushed[key] = None
                elif copy.is_caught_up or not self._has_to_wait(replica):
                    position = copy.position
                else:
                    self._throttled.add(key)
            before = known.get(key)
            if position is not None:
                if position != before or key in self._unheard:
                    self._unheard.discard(key)
                    known[key] = wanted[key] = position
            elif before is not None:
                del known[key]
                forgotten.append(key)
        self._dirty.clear()
        return wanted, forgotten

    def _has_to_wait(self, replica: Replica) -> bool:
        throttle = self._throttle
        return throttle is not None and self._is_throttled(replica) and throttle.is_exceeded

    @staticmethod
    def _is_throttled(replica: Replica) -> bool:
        throttled = replica.log.config.follower_replication_throttled_replicas
        return is_throttled(throttled, replica.index, replica.node_id)

    def _topics(self, wanted: dict[Key, Position], max_bytes: int) -> list[FetchTopic]:
        topics: dict[str | bytes, FetchTopic] = {}
        for (topic, index), position in wanted.items():
            named = topics.get(topic)
            if named is None:
                named = topics[topic] = (
                    FetchTopic(topic=topic)
                    if isinstance(topic, str)
                    else FetchTopic(topic_id=topic)
                )
            named.partitions.append(
                FetchPartition(
                    partition=index,
                    current_leader_epoch=position.leader_epoch,
                    fetch_offset=position.fetch_offset,
                    last_fetched_epoch=position.last_fetched_epoch,
                    log_start_offset=position.log_start_offset,
                    partition_max_bytes=max_bytes,
                )
            )
        return list(topics.values())

    def _forgotten(self, keys: Iterable[Key]) -> list[ForgottenTopic]:
        topics: dict[str | bytes, ForgottenTopic] = {}
        for topic, index in keys:
            if topic not in topics:
                topics[topic] = (
                    ForgottenTopic(topic=topic)
                    if isinstance(topic, str)
                    else ForgottenTopic(topic_id=topic)
                )
            topics[topic].partitions.append(index)
        return list(topics.values())

    # The session

    def lost(self) -> None:
        """The connection is gone, and with it what is under way."""
        self._sent.clear()
        self.cuts.clear()
        self.asking.clear()
        for copy in self:
            if (
                copy.state is State.HELD
            ):  # what it waits for went with the connection: it is asked for again
                copy.state = State.READY
        self._begin_session()

    def _begin_session(self) -> None:
        self._session_epoch = INITIAL_EPOCH
        self._dirty = dict.fromkeys(self._keyed)
        self._known.clear()
        self._unheard.clear()

    def _session_answered(self, sent: Sent, response: FetchResponse) -> bool:
        """What the answer means for the session; whether it says anything of partitions."""
        code = ErrorCode(response.error_code)
        if code is not ErrorCode.NONE:
            if code is ErrorCode.FETCH_SESSION_ID_NOT_FOUND:
                self._session_id = NO_SESSION
            self._begin_session()
            return False
        if self._session_epoch == INITIAL_EPOCH and not sent.is_full:
            return False  # the session has ended behind this request
        self._session_id = response.session_id
        self._is_refused = sent.is_full and response.session_id == NO_SESSION
        if response.session_id == NO_SESSION:
            self._session_epoch = INITIAL_EPOCH
        elif sent.is_full:
            self._session_epoch = INITIAL_EPOCH + 1
        return True

    # Delays

    def _delay(self, copy: Copy, now: float) -> None:
        delay = min(FIRST_DELAY_S * 2 ** min(copy.failures, 30), self._backoff_s)
        copy.failures += 1
        copy.state = State.DELAYED
        copy.due = now + delay
        self._delays += 1
        heappush(self._delayed, (copy.due, self._delays, copy))
        self._dirty[self._key_of(copy.replica)] = None

    def _wake(self, now: float) -> None:
        while self._delayed:
            due, _, copy = self._delayed[0]
            is_gone = not self.is_current(copy) or copy.state is not State.DELAYED
            if due > now and not is_gone:
                return
            heappop(self._delayed)
            if not is_gone:
                copy.state = State.READY
                self._dirty[self._key_of(copy.replica)] = None

    def _stop(self, copy: Copy) -> None:
        copy.state = State.STOPPED
        self._dirty[self._key_of(copy.replica)] = None
        self.failed.append(copy.replica)
