"""Fetch (key 1): records from a position on, now or when there are enough of them.

Behaviour
- The partitions are read in the order of the request (of the session's dirty set), each up to its
  ``partition_max_bytes``, all up to ``max_bytes`` and ``fetch.max.bytes``; the first one that has records
  returns at least one batch, however large (KIP-74).
- With fewer than ``min_bytes`` and no error the request is parked on its partitions and read again when
  one of them changes, until ``max_wait_ms`` is over. An unknown topic beside others does not hurry it.
- A consumer sees what is below the high watermark, a follower all of the log. Record bytes leave as file regions,
  never copied here.
- What comes behind a follower's parked Fetch, on its connection or in its session, has that one answered with nothing:
  so a follower can acknowledge one partition, or begin with it, while it waits for others. A consumer's holds on.
- With ``replica.selector.class`` a consumer that tells its rack is sent to an in-sync follower in there, and gets no
  records here (KIP-392). A follower serves consumers of version 11 and newer up to the high watermark that it knows;
  of an offset behind its log's end it cannot say whether there is such (OFFSET_NOT_AVAILABLE).
- A follower that is not in sync gets nothing of a throttled replica while the broker sends more than it may (KIP-73).
- A follower's first look at a partition is its acknowledgement: it has all below the offset that it asks for, if that
  is found good. What is appended while it is parked wakes it; a high watermark alone goes with the next response.
  One that could not let its replica join the ISR is answered as soon as another one can.
- Thousands of partitions are read in steps, and others have their turns in between. Each partition is looked at in
  one step, so that what is told of it holds together; nothing is told of several together. What changes behind
  the reading is seen before the request is parked.

Versions: 7 sessions (KIP-227), 9 the leader epoch is checked (KIP-320), 11 rack, 12 diverging epochs, 13
topic ids, 16 who leads instead and where (KIP-951), 15 the replica's state in a tag.
Errors: a partition's UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, NOT_LEADER_OR_FOLLOWER,
FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, INCONSISTENT_TOPIC_ID, OFFSET_OUT_OF_RANGE, OFFSET_NOT_AVAILABLE, KAFKA_STORAGE_ERROR,
UNSUPPORTED_COMPRESSION_TYPE (a topic of zstd, below version 10); the request's
FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
Source: ``KafkaApis.handleFetchRequest``, ``ReplicaManager.fetchMessages``, ``FetchSession.scala``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from ottla.broker.current_leaders import current_leader, endpoints_of
from ottla.broker.fetch_sessions import FetchContext, Key, Position
from ottla.errors import ErrorCode, KafkaError
from ottla.log.reading import LogRead
from ottla.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)
from ottla.network.sending import close_regions
from ottla.network.stepping import Steps, begun, run

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request
    from ottla.replication.partition import Partition

READ_COMMITTED = 1

# A client goes on asking for a topic that it has not yet heard the end of: the error alone is no reason to
# answer at once, or it would ask in a tight loop. One that goes while the request waits is.
UNKNOWN = frozenset((ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID))
ZSTD_SINCE = 10
LEADERS_SINCE = 16
LEADS_ELSEWHERE = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)
FROM_FOLLOWERS_SINCE = 11
STORAGE_ERROR_SINCE = 6

NOTHING = LogRead([], 0, 0)

STEP_PARTITIONS = 100
"""How many partitions are read before others have their turn: some half a millisecond."""


Answer: TypeAlias = "FetchResponse | asyncio.Future[FetchResponse]"


def handle(broker: Broker, request: Request) -> Answer | Steps[Answer]:
    """Answer at once if there is enough or nothing to wait for, else park."""
    return begun(_handle(broker, request))


def _handle(broker: Broker, request: Request) -> Steps[Answer]:
    replica_id, replica_epoch = _replica(request)
    if replica_id >= 0:
        broker.fetch_sessions.overtake(request.body.session_id)
    heard_ms = broker.replicas.peers.now_ms() if replica_id >= 0 else 0
    try:
        context = yield from broker.fetch_sessions.open_in_steps(
            request.body, request.api_version, request.received_ms, replica_id, heard_ms
        )
    except KafkaError as error:
        return FetchResponse(error_code=error.code)
    context.wants_high_watermark = broker.replicas.peers.selects_replicas
    fetch = ParkedFetch(broker, request, context, replica_id, replica_epoch)
    try:
        result = yield from fetch.read()
    except BaseException:  # the connection is gone, as a rule
        context.finish()
        raise
    if result.enough or fetch.max_wait_ms <= 0 or broker.is_stopping:
        return fetch.answer(result)
    result.close()
    if replica_id >= 0 and context.session_id:
        request.give_way = fetch.overtaken
    return fetch.park()


def _replica(request: Request) -> tuple[int, int]:
    """The follower's id and its broker's epoch; below 0 for a consumer, and where it is not told (below 15)."""
    body: FetchRequest = request.body
    if body.replica_state is not None:
        return body.replica_state.replica_id, body.replica_state.replica_epoch
    return body.replica_id, -1


class _Result:
    """What one pass over the partitions found."""

    __slots__ = ("bytes", "failed", "has_news", "min_bytes", "partitions", "throttled", "unknown")

    def __init__(self, min_bytes: int) -> None:
        self.min_bytes = min_bytes
        self.bytes = 0
        self.failed = False
        self.has_news = False
        self.throttled = 0
        """Bytes of replicas whose sending is throttled."""
        self.unknown = 0
        self.partitions: list[tuple[Position, PartitionData]] = []

    @property
    def enough(self) -> bool:
        return self.failed or self.has_news or self.bytes >= self.min_bytes

    def close(self) -> None:
        for _, data in self.partitions:
            if isinstance(data.records, list):
                close_regions(data.records)


class ParkedFetch:
    """One Fetch request on its way; parked, where there is not enough yet."""

    def __init__(
        self,
        broker: Broker,
        request: Request,
        context: FetchContext,
        replica_id: int,
        replica_epoch: int,
    ) -> None:
        body: FetchRequest = request.body
        self.broker = broker
        self.context = context
        self.version = request.api_version
        self.listener = request.connection.listener_name
        self._peer = request.connection
        self.min_bytes = body.min_bytes
        self.max_bytes = min(body.max_bytes, broker.config.fetch_max_bytes)
        self.max_wait_ms = body.max_wait_ms
        self.read_committed = body.isolation_level == READ_COMMITTED
        selects = replica_id < 0 and broker.replicas.peers.selects_replicas
        self.rack = body.rack_id if selects else ""
        self.replica_id = replica_id
        self.replica_epoch = replica_epoch
        self.is_consumer = replica_id < 0
        self._acknowledges = replica_id >= 0  # the first pass over the partitions does
        self.future: asyncio.Future[FetchResponse] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self._looking: Steps[_Result] | None = None
        self._changed = False
        self._last = False

    def read(self) -> Steps[_Result]:
        """Look at every partition that may have something to say, some of them in each step."""
        result = _Result(self.min_bytes)
        try:
            yield from self._read_into(result)
        except BaseException:
            result.close()
            raise
        self._acknowledges = False
        return result

    def _read_into(self, result: _Result) -> Steps[None]:
        self._changed = False
        self.context.on_change = self._change
        room = self.max_bytes
        left = STEP_PARTITIONS
        for key, position in self.context.due():
            left -= 1
            if not left:
                left = STEP_PARTITIONS
                yield
            data, size, quiet = self._read_partition(key, position, room, result.bytes == 0)
            if data.error_code in UNKNOWN:
                result.unknown += 1
            elif data.error_code or data.diverging_epoch is not None:
                result.failed = True
            elif data.preferred_read_replica >= 0 or self.context.must_tell(
                position, data.high_watermark, data.log_start_offset
            ):
                result.has_news = True
            elif not self.is_consumer and not self._acknowledges:  # it has waited: another one is
                assert position.partition is not None
                result.has_news |= position.partition.would_let_join(self.replica_id)
            result.bytes += size
            if size and not self.is_consumer and position.partition is not None:
                result.throttled += size if position.partition.is_throttled else 0
            room = max(0, room - size)
            is_news = not quiet or self.context.includes(
                position, data.high_watermark, data.log_start_offset
            )
            if is_news:  # which stays so until it is told, if this look does not answer
                result.partitions.append((position, data))
            self.context.settle(key, quiet=not is_news)
        if result.unknown and (
            self.future is not None or result.unknown == len(self.context.positions)
        ):
            result.failed = True

    def _read_partition(
        self, key: Key, position: Position, room: int, first: bool
    ) -> tuple[PartitionData, int, bool]:
        """The partition's part of the response, its bytes, and whether there is nothing new in it."""
        try:
            partition = self._resolve(key, position)
        except KafkaError as error:
            data = PartitionData(
                partition_index=position.index,
                error_code=self._told(error.code),
                high_watermark=-1,
                records=b"",
            )
            return data, 0, False
        data = PartitionData(
            partition_index=position.index,
            log_start_offset=partition.log.log_start_offset,
            aborted_transactions=[] if self.read_committed else None,
            records=b"",
        )
        limit = min(position.max_bytes, room)
        try:
            if position.last_fetched_epoch >= 0:
                data.diverging_epoch = _divergence(partition, position)
            if data.diverging_epoch is not None:
                found = NOTHING
            elif self.is_consumer:
                data.preferred_read_replica = self._preferred(partition, position)
                if data.preferred_read_replica >= 0:
                    found = NOTHING
                else:
                    found = self._read_for_consumer(partition, position, limit, first)
            else:
                found = self._read_for_follower(partition, position, limit, first)
            data.high_watermark = partition.high_watermark
            data.last_stable_offset = partition.last_stable_offset
            if data.diverging_epoch is not None:
                return data, 0, False
        except KafkaError as error:
            data.error_code = self._told(error.code)
            data.high_watermark = data.last_stable_offset = data.log_start_offset = -1
            return data, 0, False
        data.records = found.regions
        if self.is_consumer:
            behind = position.fetch_offset < partition.high_watermark
            behind = behind or data.preferred_read_replica >= 0
        else:
            # Who is not in the ISR is looked at with each Fetch: one of them may let it join.
            behind = (
                position.fetch_offset < partition.log.log_end_offset
                or self.replica_id not in partition.isr
            )
        return data, found.size_bytes, not (found.regions or behind)

    def _read_for_consumer(
        self, partition: Partition, position: Position, max_bytes: int, first: bool
    ) -> LogRead:
        """What is committed, as far as this replica knows: a follower may not have heard of all that is."""
        if not partition.is_leader and position.fetch_offset > partition.log.log_end_offset:
            raise KafkaError(ErrorCode.OFFSET_NOT_AVAILABLE)
        return partition.read(position.fetch_offset, max_bytes, at_least_one=first)

    def _preferred(self, partition: Partition, position: Position) -> int:
        """The follower that the consumer is to read from; -1 for this replica."""
        if not self.rack or not partition.is_leader:
            return -1
        brokers = self.broker.metadata.brokers

        def rack_of(broker_id: int) -> str | None:
            broker = brokers.get(broker_id)
            return None if broker is None else broker.rack

        found = partition.preferred_replica(self.rack, position.fetch_offset, rack_of)
        return -1 if found is None else found

    def _read_for_follower(
        self, partition: Partition, position: Position, max_bytes: int, first: bool
    ) -> LogRead:
        """All of the log from the position on, which is the follower's acknowledgement."""
        quota = self.broker.replicas.peers.leader_quota
        waits = (
            quota is not None
            and partition.is_throttled
            and self.replica_id not in partition.isr
            and quota.is_exceeded
        )
        found = partition.read_as_leader(
            position.fetch_offset, 0 if waits else max_bytes, at_least_one=first and not waits
        )
        if self._acknowledges:
            try:
                partition.record_follower_fetch(
                    self.replica_id,
                    self.replica_epoch,
                    position.fetch_offset,
                    position.log_start_offset,
                    self.context.heard_ms,
                )
            except KafkaError:
                close_regions(found.regions)
                raise
        return found

    def _told(self, code: ErrorCode) -> ErrorCode:
        """As Kafka: a client of before KAFKA_STORAGE_ERROR would give up at it, and is to look elsewhere."""
        if code == ErrorCode.KAFKA_STORAGE_ERROR and self.version < STORAGE_ERROR_SINCE:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return code

    def _resolve(self, key: Key, position: Position) -> Partition:
        name: str | None = position.topic
        if self.version >= 13:
            name = self.broker.metadata.topic_name(position.topic_id)
            if name is None:
                self.context.attach(key, position, None)
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        assert name is not None
        replicas = self.broker.replicas
        try:
            if self.is_consumer and self.version >= FROM_FOLLOWERS_SINCE:
                partition = replicas.replica_of(name, position.index)
            else:
                partition = replicas.leader_of(name, position.index)
            if self.version >= 13 and partition.topic_id != position.topic_id:
                raise KafkaError(ErrorCode.INCONSISTENT_TOPIC_ID)
        except KafkaError:
            self.context.attach(key, position, None)
            raise
        self.context.attach(key, position, partition)
        if self.is_consumer:
            partition.require_epoch(position.current_leader_epoch)
        else:
            partition.require_follower(self.replica_id, position.current_leader_epoch)
        if self.version < ZSTD_SINCE and partition.log.config.compression_type == "zstd":
            raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
        return partition

    def answer(self, result: _Result) -> FetchResponse:
        """The response; the session, if there is one, remembers what it says."""
        quota = self.broker.replicas.peers.leader_quota
        if result.throttled and quota is not None:
            quota.record(result.throttled)
        topics: dict[Any, FetchableTopicResponse] = {}
        by_id = self.version >= 13
        for position, data in result.partitions:
            position.is_named = False
            position.sent_high_watermark = data.high_watermark
            position.sent_log_start = data.log_start_offset
            key = position.topic_id if by_id else position.topic
            topic = topics.get(key)
            if topic is None:
                topic = topics[key] = FetchableTopicResponse(
                    topic=position.topic, topic_id=position.topic_id
                )
            topic.partitions.append(data)
        self.context.finish()
        return FetchResponse(
            session_id=self.context.session_id,
            responses=list(topics.values()),
            node_endpoints=self._tell_leaders(result) if self.version >= LEADERS_SINCE else [],
        )

    def _tell_leaders(self, result: _Result) -> list[NodeEndpoint]:
        """Say who leads what this broker does not lead, or not in the client's epoch; and where to reach them."""
        leaders: dict[int, None] = {}
        for position, data in result.partitions:
            if data.error_code in LEADS_ELSEWHERE:
                leader, epoch = current_leader(
                    self.broker, position.topic, position.topic_id, position.index
                )
                data.current_leader = LeaderIdAndEpoch(leader_id=leader, leader_epoch=epoch)
                leaders[leader] = None
        if not leaders:
            return []
        return endpoints_of(self.broker, leaders, self.listener, NodeEndpoint)

    def park(self) -> asyncio.Future[FetchResponse]:
        """Wait for a change or the time."""
        loop = self.broker.loop
        self.future = loop.create_future()
        self.future.add_done_callback(self._done)
        self.context.on_change = self._change
        self.context.parked = self
        self.broker.parked_fetches.add(self)
        self._timer = loop.call_later(self.max_wait_ms / 1000, self._time_over)
        if self._changed:
            self._wake()
        return self.future

    def overtaken(self) -> None:
        """Answer with nothing: another request is here, and the session's next Fetch is told all."""
        if self.future is not None and not self.future.done():
            self._answer(_Result(0))

    def end(self) -> None:
        """Answer with what there is: the broker stops."""
        if self.future is None or self.future.done():
            return
        if self._looking is not None:
            self._looking.close()
            self._looking = None
        self._answer(run(self.read()))

    def _time_over(self) -> None:
        self._last = True
        self._wake()

    def _change(self) -> None:
        self._changed = True
        if self.future is not None and not self.future.done():
            self._wake()

    def _wake(self) -> None:
        if not self._woken:  # one look for all that changes in a turn of the loop
            self._woken = True
            self.broker.server.turns.soon(self._look)

    def _look(self) -> None:
        """Take a step of a look at the partitions, or of one that is under way."""
        self._woken = False
        if self.future is None or self.future.done():
            return
        if self._looking is None:
            self._looking = self.read()
        try:
            next(self._looking)
        except StopIteration as done:
            self._looking = None
            if done.value.enough or self._last:
                self._answer_now(done.value)
            else:
                done.value.close()
                if self._changed:
                    self._wake()
        except Exception as error:
            self._looking = None
            self.future.set_exception(error)
        else:
            self._wake()

    def _answer(self, result: _Result) -> None:
        assert self.future is not None
        try:
            self.future.set_result(self.answer(result))
        except Exception as error:
            self.future.set_exception(error)

    def _answer_now(self, result: _Result) -> None:
        """As ``_answer``, but written in this turn of the loop: producers wait for what a follower says next."""
        future = self.future
        assert future is not None
        future.remove_done_callback(self._done)
        self._done(future)
        try:
            response = self.answer(result)
        except Exception as error:
            future.set_exception(error)
        else:
            self._peer.answer_now(future, response)

    def _done(self, future: asyncio.Future[FetchResponse]) -> None:
        self.broker.parked_fetches.discard(self)
        if self.context.parked is self:
            self.context.parked = None
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.close()
            self._looking = None
        if future.done() and future.cancelled():  # the connection is gone
            self.context.finish()


def _divergence(partition: Partition, position: Position) -> EpochEndOffset | None:
    """Where the client's log parts from ours, if it does (KIP-595).

    Errors: OFFSET_OUT_OF_RANGE where nothing is known of the epoch.
    """
    ours = partition.log.end_offset_for_epoch(position.last_fetched_epoch)
    if ours is None:
        raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
    if ours.epoch < position.last_fetched_epoch or ours.end_offset < position.fetch_offset:
        return EpochEndOffset(epoch=ours.epoch, end_offset=ours.end_offset)
    return None
