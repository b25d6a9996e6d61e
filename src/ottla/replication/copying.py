"""What a follower asks one leader for, and what it does with the answers. Sans-IO: the log is the replica's.

Rules:
- An answer counts for a partition only while the leader, its epoch and the position that was asked for are
  what they were when it was asked: what moved meanwhile is asked for again.
- A position is an acknowledgement: with ``durability=disk`` a partition is not asked for while its log has an end
  that is not flushed. Whoever carries the requests has it flushed (``appended``, ``unflushed``).
- A log is cut only where the leader's answer shows that it parts from the leader's (KIP-595, KIP-279), and never
  below what this leader has told to be committed in this epoch (INVARIANTS 12).
- What is damaged on its way, or carries an epoch that cannot be, is not appended, but asked for again.
- One partition's failure delays that partition only. The first delays are short: after a failover, leader and
  follower hear of it at different moments.
- An incremental session (KIP-227) makes a request cost what changed. Two requests may be under way: see
  ``may_send_another``.

Sources: ``AbstractFetcherThread``, ``RemoteLeaderEndPoint``, ``FetchSessionHandler``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.log.log import UnexpectedAppendOffset
from ottla.logs import logger
from ottla.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    ReplicaState,
)
from ottla.records.batch import iter_batches
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.replication.replica import Replica

log = logger(__name__)

NO_SESSION = 0
INITIAL_EPOCH = 0
SESSION_EPOCH_MAX = 2**31 - 1

IN_FLIGHT_MAX = 2

PIECE_BYTES = 256 * 1024
"""So much is appended before others have a turn: less than a millisecond."""

FIRST_DELAY_S = 0.01
"""The delay after a first failure; it doubles up to ``replica.fetch.backoff.ms``."""

Key = tuple[str | bytes, int]
"""A topic's id (Fetch 13 and newer) or name, and a partition's index."""

_EXPECTED = frozenset(
    (
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.LEADER_NOT_AVAILABLE,
    )
)
"""What a leader answers that does not know yet, or not any more, what this follower knows."""


class Limits(NamedTuple):
    """What the settings ``replica.fetch.*`` say. Sizes in bytes, times in milliseconds."""

    max_bytes: int
    response_max_bytes: int
    min_bytes: int
    wait_max_ms: int
    backoff_ms: int


class State(Enum):
    """What a partition waits for."""

    READY = "ready"
    """To be asked for, or for the answer."""
    DELAYED = "delayed"
    """For some time to pass: something failed."""
    HELD = "held"
    """For its log to be cut, or for the leader to say where its log starts and ends."""
    STOPPED = "stopped"
    """For the controller: its log directory failed, or it is damaged."""


class Position(NamedTuple):
    """Where a follower is, as it tells the leader."""

    fetch_offset: int
    log_start_offset: int
    leader_epoch: int
    last_fetched_epoch: int


class Copy:
    """One partition that is copied from this leader, in one epoch of it."""

    __slots__ = ("due", "failures", "lag", "leader_epoch", "leader_start", "replica", "state")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.leader_epoch = replica.leader_epoch
        self.state = State.READY
        self.due = 0.0
        self.failures = 0
        self.lag: int | None = None
        """How many records the leader has committed that are missing here; None before the first answer."""
        self.leader_start = 0
        """Where the leader's log starts."""

    def __repr__(self) -> str:
        return f"Copy({self.replica!r}, epoch {self.leader_epoch}, {self.state.value})"

    @property
    def position(self) -> Position:
        """What to ask for now."""
        of = self.replica.log
        return Position(of.log_end_offset, of.log_start_offset, self.leader_epoch, of.latest_epoch)

    @property
    def is_caught_up(self) -> bool:
        """Whether nothing that the leader has committed was missing at its last answer."""
        return self.lag == 0


class Cut(NamedTuple):
    """A log is to be cut to ``offset``; ``fully``: to drop everything and begin there."""

    copy: Copy
    offset: int
    fully: bool
    why: str


class _Sent:
    """A request that is under way."""

    __slots__ = ("is_full", "outdated")

    def __init__(self, is_full: bool) -> None:
        self.is_full = is_full
        self.outdated: set[Key] = set()
        """Partitions whose position a later request has changed."""


class Copying:
    """The partitions that are copied from one leader over one connection."""

    def __init__(
        self,
        leader_id: int,
        *,
        node_id: int,
        is_throttled: Callable[[Replica], bool] = lambda replica: False,
    ) -> None:
        """``is_throttled`` says whether a partition that is behind has to wait (replication quota)."""
        self.leader_id = leader_id
        self._node_id = node_id
        self._is_throttled = is_throttled
        self._copies: dict[tuple[str, int], Copy] = {}
        self._keyed: dict[Key, Copy] = {}
        self._by_id = False
        self._dirty: dict[Key, None] = {}
        self._throttled: set[Key] = set()
        self._unflushed: dict[Key, None] = {}
        self._known: dict[Key, Position] = {}
        self._session_id = NO_SESSION
        self._session_epoch = INITIAL_EPOCH
        self._sent: deque[_Sent] = deque()
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
        """Whether a partition that is ready is not in what the leader was asked for."""
        for key in self._dirty:
            copy = self._keyed.get(key)
            if copy is not None and copy.state is State.READY and key not in self._known:
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
            max_wait_ms=limits.wait_max_ms,
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
        self._sent.append(_Sent(is_full))
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
                elif copy.is_caught_up or not self._is_throttled(replica):
                    position = copy.position
                else:
                    self._throttled.add(key)
            before = known.get(key)
            if position is not None:
                if position != before:
                    known[key] = wanted[key] = position
            elif before is not None:
                del known[key]
                forgotten.append(key)
        self._dirty.clear()
        return wanted, forgotten

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
        self._begin_session()

    def _begin_session(self) -> None:
        self._session_epoch = INITIAL_EPOCH
        self._dirty = dict.fromkeys(self._keyed)
        self._known.clear()

    def _session_answered(self, sent: _Sent, response: FetchResponse) -> bool:
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
        if response.session_id == NO_SESSION:
            self._session_epoch = INITIAL_EPOCH
        elif sent.is_full:
            self._session_epoch = INITIAL_EPOCH + 1
        return True

    # Answers

    def answered(
        self, response: FetchResponse, now: Callable[[], float], now_ms: int
    ) -> Iterator[None]:
        """Take in the answer to the oldest request; yields where others may have a turn."""
        sent = self._sent.popleft()
        if not self._session_answered(sent, response):
            return
        for topic in response.responses:
            name: str | bytes = topic.topic_id if self._by_id else topic.topic
            for data in topic.partitions:
                key = (name, data.partition_index)
                copy = self._keyed.get(key)
                asked = self._known.get(key)
                if copy is None or asked is None or key in sent.outdated:
                    continue
                self._dirty[key] = None
                if copy.state is State.READY and self.is_current(copy):
                    position = copy.position
                    if asked.fetch_offset == position.fetch_offset and (
                        asked.leader_epoch == position.leader_epoch
                    ):
                        yield from self._take(copy, data, now, now_ms)

    def _take(
        self, copy: Copy, data: PartitionData, now: Callable[[], float], now_ms: int
    ) -> Iterator[None]:
        if data.error_code:
            self._refused(copy, ErrorCode(data.error_code), now())
        elif data.diverging_epoch is not None and data.diverging_epoch.epoch >= 0:
            end = data.diverging_epoch
            self._parted(copy, end.epoch, end.end_offset, now())
        else:
            yield from self._append(copy, data, now, now_ms)

    def _append(
        self, copy: Copy, data: PartitionData, now: Callable[[], float], now_ms: int
    ) -> Iterator[None]:
        replica = copy.replica
        try:
            for piece in pieces(data.records):
                if replica.append_as_follower(piece, now_ms) is not None:
                    self.appended[replica] = None
                yield
                if not self.is_current(copy) or copy.state is not State.READY:
                    return
        except UnexpectedAppendOffset as error:
            self._overlaps(copy, error, now())
            return
        except KafkaError as error:
            self._append_failed(copy, error, now())
            return
        copy.failures = 0
        copy.lag = max(0, data.high_watermark - replica.log.log_end_offset)
        if data.high_watermark >= 0:
            replica.learn_high_watermark(data.high_watermark)
        copy.leader_start = data.log_start_offset
        if data.log_start_offset > replica.log.log_start_offset:
            self.starting[copy] = None

    def _append_failed(self, copy: Copy, error: KafkaError, now: float) -> None:
        failed = copy.replica.log
        if failed.unusable is not None or failed.health.failure is not None:
            self._stop(copy)
            return
        log.warning("records were not copied", partition=repr(copy.replica), reason=str(error))
        self._delay(copy, now)

    def _overlaps(self, copy: Copy, error: UnexpectedAppendOffset, now: float) -> None:
        """The leader's batch begins before this log's end, which is within it.

        So it is where DeleteRecords let the leader's log start amid a batch, and this one begins there; or after
        an unclean election.
        """
        of = copy.replica.log
        is_empty = of.log_start_offset == of.log_end_offset
        self._cut(
            copy,
            error.first_offset,
            "the leader's batch begins before its end",
            now,
            fully=is_empty,
        )

    def _refused(self, copy: Copy, code: ErrorCode, now: float) -> None:
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            copy.state = State.HELD
            self.asking.append(copy)
            return
        if code not in _EXPECTED:
            log.warning(
                "the leader could not be read",
                partition=repr(copy.replica),
                leader=self.leader_id,
                reason=code.name,
            )
        self._delay(copy, now)

    # Cutting

    def _parted(self, copy: Copy, epoch: int, end_offset: int, now: float) -> None:
        """The leader's log has nothing of our last epoch behind ``end_offset``, where ``epoch`` ends in it."""
        of = copy.replica.log
        offset = min(end_offset, of.log_end_offset)
        ours = of.end_offset_for_epoch(epoch)
        if end_offset < 0:
            offset = min(copy.replica.high_watermark, of.log_end_offset)
        elif ours is not None:
            # Of an epoch that we lack, all that comes after the one before it goes, and we ask again.
            offset = min(offset, ours.end_offset) if ours.epoch == epoch else ours.end_offset
        self._cut(copy, offset, f"the leader's epoch {epoch} ends at {end_offset}", now)

    def found_range(self, copy: Copy, start_offset: int, end_offset: int, now: float) -> None:
        """The leader's log starts and ends there: go on where both logs can."""
        if copy.state is not State.HELD or not self.is_current(copy):
            return
        end = copy.replica.log.log_end_offset
        if end_offset < end:
            self._cut(copy, end_offset, f"the leader's log ends at {end_offset}", now)
        elif start_offset > end:
            why = f"the leader's log starts at {start_offset}"
            self._cut(copy, start_offset, why, now, fully=True)
        else:
            self._delay(copy, now)  # it moved meanwhile

    def range_not_found(self, copy: Copy, now: float) -> None:
        """The leader did not say where its log starts and ends."""
        if copy.state is State.HELD and self.is_current(copy):
            self._delay(copy, now)

    def _cut(self, copy: Copy, offset: int, why: str, now: float, *, fully: bool = False) -> None:
        told = copy.replica.told_high_watermark
        of = copy.replica.log
        has_records = of.log_end_offset > of.log_start_offset
        if has_records and offset < min(told, of.log_end_offset):
            log.error(
                "not cut: the leader told that more is committed",
                partition=repr(copy.replica),
                leader=self.leader_id,
                offset=offset,
                committed=told,
                reason=why,
            )
            self._delay(copy, now)
            return
        copy.state = State.HELD
        self.cuts.append(Cut(copy, offset, fully, why))

    def cut(self, cut: Cut, now: float, now_ms: int) -> None:
        """Cut the log, if that still counts. The checkpointed recovery point is lowered before."""
        copy = cut.copy
        if copy.state is not State.HELD or not self.is_current(copy):
            return
        replica = copy.replica
        before = (replica.log.log_end_offset, replica.log.latest_epoch)
        committed = replica.high_watermark
        try:
            if cut.fully:
                replica.truncate_fully_to(cut.offset, now_ms)
            else:
                replica.truncate_to(cut.offset, now_ms)
        except KafkaError as error:
            log.error("log not cut", partition=repr(replica), reason=str(error))
            self._append_failed(copy, error, now)
            return
        end = replica.log.log_end_offset
        tell = log.info
        if end < committed:  # the leader was elected uncleanly, or has lost what it had
            tell = log.error
        tell(
            "log cut to agree with the leader's",
            partition=repr(replica),
            leader=self.leader_id,
            epoch=copy.leader_epoch,
            end_offset=before[0],
            cut_to=end,
            high_watermark=committed,
            reason=cut.why,
        )
        if (end, replica.log.latest_epoch) == before:
            self._delay(copy, now)  # to ask again at once would bring the same answer
            return
        copy.state = State.READY
        self._dirty[self._key_of(replica)] = None

    def flush_failed(self, replica: Replica, error: KafkaError, now: float) -> None:
        """The replica's log could not be flushed."""
        copy = self._copies.get((replica.topic, replica.index))
        if copy is not None and copy.replica is replica and copy.state is State.READY:
            self._append_failed(copy, error, now)

    def cut_failed(self, cut: Cut, error: KafkaError, now: float) -> None:
        """The log could not be cut, since the recovery point could not be lowered."""
        if cut.copy.state is State.HELD and self.is_current(cut.copy):
            self._append_failed(cut.copy, error, now)

    def starts_due(self) -> dict[Replica, int]:
        """Where logs are to start now, as far as they have come: to be written down, then to be moved."""
        due: dict[Replica, int] = {}
        for copy in tuple(self.starting):
            of = copy.replica.log
            if not self.is_current(copy) or of.log_start_offset >= copy.leader_start:
                del self.starting[copy]
                continue
            start = min(copy.leader_start, copy.replica.high_watermark)
            if start > of.log_start_offset:
                due[copy.replica] = start
        return due

    def touched(self, replica: Replica) -> None:
        """Its log was flushed, or starts elsewhere now: the leader is to know."""
        key = self._key_of(replica)
        self._unflushed.pop(key, None)
        self._dirty[key] = None

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


def pieces(records: object) -> Iterator[memoryview]:
    """Fetched records in pieces of whole batches, each of ``PIECE_BYTES`` or one batch; a partial last one is left.

    Raises ``KafkaError`` as ``iter_batches``, after what is before the damage.
    """
    if not records:
        return
    assert isinstance(records, (bytes, bytearray, memoryview))
    view = memoryview(records)
    start = end = 0
    try:
        for position, header in iter_batches(view):
            following = position + header.size_bytes
            if following - start > PIECE_BYTES and end > start:
                yield view[start:end]
                start = end
            end = following
    except KafkaError:
        if end > start:
            yield view[start:end]
        raise
    if end > start:
        yield view[start:end]
