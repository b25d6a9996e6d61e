"""Keeps the buffer of fetched batches filled: one Fetch in flight to each broker, at most two answers a partition.

The broker's sessions (KIP-227) spare naming the same partitions again; topics go by id where the broker
does (version 13). A follower in our rack is read from when the leader says so (KIP-392); while that one is not to be
had the leader is asked as if we were in no rack, since it sends us there and gives nothing else. Nothing here
waits: everything is driven by answers, by the application taking records, and by changed positions.
Another thread may do what is done on the loop while that sleeps (``elsewhere``); only plain answers are taken in there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from ottla.client.cluster import Cluster
from ottla.client.consumer.fetch_session import FetchSession, SessionFetch, Wanted
from ottla.client.consumer.fetched import Chunk, FetchedPartition, Reading
from ottla.client.consumer.positions import PartitionState, Phase, Positions
from ottla.client.consumer.settings import ConsumerSettings
from ottla.client.errors import NoOffsetForPartition
from ottla.client.metadata import Node
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from ottla.network.channel import Channel
from ottla.topic_ids import ZERO_ID

log = logger(__name__)

FETCH = 1
TOPIC_ID_VERSION = 13
BUFFERED_ANSWERS = 2

_SESSION_ERRORS = frozenset(
    {
        ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode.INVALID_FETCH_SESSION_EPOCH,
        ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
    }
)
_ASK_METADATA = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.LEADER_NOT_AVAILABLE,
    }
)


class _Asked(NamedTuple):
    """What a partition's state was when its Fetch left."""

    state: PartitionState
    version: int
    offset: int
    node_id: int


class _UnderWay(NamedTuple):
    """A Fetch without an answer."""

    future: asyncio.Future[Any]
    channel: Channel
    asked: dict[TopicPartition, _Asked]
    names: dict[bytes, str]
    """The topics' names, where the answer has only their ids."""


def _is_plain(response: Any) -> bool:
    """Whether an answer brings records and offsets, and nothing that has to be seen to."""
    return response.error_code == 0 and all(
        data.error_code == 0
        and data.preferred_read_replica < 0
        and (data.diverging_epoch is None or data.diverging_epoch.end_offset < 0)
        for topic in response.responses
        for data in topic.partitions
    )


class Fetcher:
    """``on_news`` is called when there are records, ``on_failure`` for what the application has to know."""

    def __init__(
        self,
        cluster: Cluster,
        positions: Positions,
        settings: ConsumerSettings,
        on_news: Callable[[], None],
        on_failure: Callable[[KafkaError, Iterable[PartitionState]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._cluster = cluster
        self._positions = positions
        self._settings = settings
        self._on_news = on_news
        self._on_failure = on_failure
        self._now_ms = now_ms
        self._reading = Reading(
            settings.check_crcs,
            settings.isolation_level == 1,
            settings.key_deserializer,
            settings.value_deserializer,
        )
        self._sessions: dict[int, FetchSession] = {}
        self._under_way: dict[int, _UnderWay] = {}
        self._connecting: set[int] = set()
        self._lock = threading.Lock()
        self._buffered_bytes = 0
        self._held_back = False
        """Whether there would be more to ask for, if less were buffered."""
        self._timer: asyncio.TimerHandle | None = None
        self.completed: deque[FetchedPartition] = deque()
        self.came = 0
        """How many answers have brought something for the application."""
        self.elsewhere: Callable[[Callable[[], object]], object] | None = None
        """Set while another thread does the work of the loop, which sleeps: has it call what nobody else can."""
        self.closed = False

    # Taking records: on any thread

    def take(self, max_records: int) -> tuple[list[Chunk], bool]:
        """Up to so many records, and whether room was made for a Fetch that waits for it (then call ``maintain``).

        Raises ``KafkaError`` for what cannot be read; the position stays before it.
        """
        chunks: list[Chunk] = []
        freed = False
        left = max_records
        held: list[FetchedPartition] = []
        try:
            while left > 0 and self.completed:
                fetched = self.completed[0]
                state = fetched.state
                if state.version != fetched.version:
                    freed |= self._drop(fetched)
                    continue
                if state.paused:
                    held.append(self.completed.popleft())
                    continue
                try:
                    chunk = fetched.take(left)
                except KafkaError:
                    if chunks:
                        break  # first what came before; the failure is met again
                    raise
                if chunk is None:
                    freed |= self._drop(fetched)
                    continue
                chunks.append(chunk)
                left -= len(chunk.records)
                if fetched.exhausted:
                    freed |= self._drop(fetched)
        finally:
            self.completed.extendleft(reversed(held))
        return chunks, freed

    def _drop(self, fetched: FetchedPartition) -> bool:
        """Whether a Fetch waits for room. Most have left before, and so the loop's thread is left alone."""
        with self._lock:
            if self.completed and self.completed[0] is fetched:
                self.completed.popleft()
                self._buffered_bytes -= fetched.size_bytes
                if fetched.version == fetched.state.version:
                    fetched.state.buffered -= 1
            return self._held_back

    # Fetching: on the loop

    def maintain(self) -> None:
        """Send every Fetch that may be sent."""
        if self.closed:
            return
        now = self._now_ms()
        wanted: dict[int, dict[TopicPartition, PartitionState]] = {}
        retry_at: int | None = None
        self._held_back = False
        for state in self._positions:
            if state.phase is not Phase.FETCH or state.paused or state.fetch_offset < 0:
                continue
            if state.retry_at_ms > now:
                retry_at = min(retry_at or state.retry_at_ms, state.retry_at_ms)
                continue
            if state.buffered >= BUFFERED_ANSWERS and self._is_full(state):
                continue
            node_id = self._node_for(state, now)
            if node_id is None:
                self._cluster.request_refresh()
                continue
            wanted.setdefault(node_id, {})[state.topic_partition] = state
        if self._buffered_bytes < self._settings.fetch_max_bytes or not self._are_full():
            for node_id, states in wanted.items():
                if node_id not in self._under_way and node_id not in self._connecting:
                    self._fetch(node_id, states)
        if retry_at is not None:
            self._call_later(retry_at - now)

    def _is_full(self, state: PartitionState) -> bool:
        """Whether enough is buffered of it; then ``take`` is to say when room is made."""
        with self._lock:
            full = state.buffered >= BUFFERED_ANSWERS
            self._held_back |= full
        return full

    def _are_full(self) -> bool:
        """As ``_is_full``, of all; not if nothing of it can be taken: the others must not starve for what is paused."""
        with self._lock:
            full = self._buffered_bytes >= self._settings.fetch_max_bytes and any(
                state.buffered and not state.paused for state in self._positions
            )
            self._held_back |= full
        return full

    def _call_later(self, delay_ms: int) -> None:
        if self.elsewhere is not None:
            self.elsewhere(partial(self._call_later, delay_ms))
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_ms / 1000, self.maintain)

    def channels(self) -> set[Channel]:
        """Over which answers are to come."""
        return {under_way.channel for under_way in self._under_way.values()}

    def start_over(self) -> None:
        """Forget what is under way: nobody knows how far the last answer was taken in.

        What was fetched since must be fetched again (``PartitionState.fetch_again``).
        """
        self.elsewhere = None
        abandoned = self.channels()
        self._under_way.clear()
        for channel in abandoned:
            channel.abort("what it brought was not taken in")
        for session in self._sessions.values():
            session.failed()
        with self._lock:
            completed = list(self.completed)
            self._buffered_bytes = sum(fetched.size_bytes for fetched in completed)
            for state in self._positions:
                state.buffered = sum(
                    fetched.state is state and fetched.version == state.version
                    for fetched in completed
                )

    def close(self) -> None:
        """Fetch no more; answers that still come are dropped."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.completed.clear()

    def _node_for(self, state: PartitionState, now: int) -> int | None:
        nodes = self._cluster.metadata.nodes
        if state.preferred_replica >= 0:
            if state.preferred_replica in nodes and now < state.preferred_until_ms:
                return state.preferred_replica
            state.preferred_replica = -1
        return self._cluster.metadata.leader_of(*state.topic_partition)

    def _fetch(self, node_id: int, states: dict[TopicPartition, PartitionState]) -> None:
        node = self._cluster.metadata.nodes[node_id]
        channel = self._cluster.connections.ready(node, "fetch")
        if channel is None:
            if self.elsewhere is not None:
                self.elsewhere(self.maintain)
                return
            self._connecting.add(node_id)
            self._cluster.connections.connect(node, "fetch", partial(self._connected, node))
            return
        metadata = self._cluster.metadata
        session = self._sessions.setdefault(node_id, FetchSession())
        wanted = {
            partition: Wanted(
                metadata.topic_id(partition.topic),
                state.fetch_offset,
                state.leader.epoch,
                state.fetch_epoch,
                self._settings.max_partition_fetch_bytes,
            )
            for partition, state in states.items()
        }
        try:
            with_ids = all(want.topic_id != ZERO_ID for want in wanted.values())
            version = channel.version_for(FETCH, None if with_ids else (0, TOPIC_ID_VERSION - 1))
            fetch = session.next_fetch(wanted, with_ids=version >= TOPIC_ID_VERSION)
            timeout = self._settings.fetch_max_wait_ms + self._cluster.settings.request_timeout_ms
            request = self._request(fetch, self._rack_for(states.values()))
            future = channel.send(request, version=version, timeout=timeout / 1000, at_once=True)
        except KafkaError as error:
            self._failed(node_id, error)
            return
        names = {want.topic_id: partition.topic for partition, want in wanted.items()}
        asked = {
            partition: _Asked(state, state.version, state.fetch_offset, node_id)
            for partition, state in states.items()
        }
        self._under_way[node_id] = _UnderWay(
            future, channel, asked, names if version >= TOPIC_ID_VERSION else {}
        )
        channel.taker = partial(self._take_at_once, node_id)
        future.add_done_callback(partial(self._answered, node_id))

    def _connected(self, node: Node) -> None:
        self._connecting.discard(node.node_id)
        if self.closed:
            return
        if self._cluster.connections.ready(node, "fetch") is None:
            self._prefer_no_more(node.node_id)
            self._cluster.request_refresh()
        self.maintain()

    def _prefer_no_more(self, node_id: int) -> None:
        """It does not answer: what was read from it as a follower is read from the leaders."""
        for state in self._positions:
            if state.preferred_replica == node_id:
                self._prefer_leader(state)

    def _prefer(self, state: PartitionState, node_id: int) -> None:
        """The leader wants the follower to be read from."""
        if node_id not in self._cluster.metadata.nodes:  # it is younger than they are
            self._prefer_leader(state)
            self._cluster.request_refresh()
            return
        state.preferred_replica = node_id
        age_ms = self._cluster.settings.metadata_max_age_ms
        state.preferred_until_ms = self._now_ms() + age_ms

    def _prefer_leader(self, state: PartitionState) -> None:
        """The follower is not to be had: for a while the leader is to give records, and not its name again."""
        state.preferred_replica = -1
        state.rackless_until_ms = self._now_ms() + self._cluster.settings.retry_backoff_max_ms

    def _rack_for(self, states: Iterable[PartitionState]) -> str:
        now = self._now_ms()
        is_told = all(state.rackless_until_ms <= now for state in states)
        return self._settings.client_rack if is_told else ""

    def _request(self, fetch: SessionFetch, rack: str) -> FetchRequest:
        topics: dict[str, FetchTopic] = {}
        for (name, number), want in fetch.to_send.items():
            topic = topics.get(name)
            if topic is None:
                topic = topics[name] = FetchTopic(topic=name, topic_id=want.topic_id, partitions=[])
            topic.partitions.append(
                FetchPartition(
                    partition=number,
                    current_leader_epoch=want.leader_epoch,
                    fetch_offset=want.fetch_offset,
                    last_fetched_epoch=want.last_fetched_epoch,
                    partition_max_bytes=want.max_bytes,
                    replica_directory_id=ZERO_ID,
                )
            )
        forgotten: dict[bytes, ForgottenTopic] = {}
        for (name, number), topic_id in fetch.to_forget.items():
            key = topic_id + name.encode()
            if key not in forgotten:
                forgotten[key] = ForgottenTopic(topic=name, topic_id=topic_id, partitions=[])
            forgotten[key].partitions.append(number)
        settings = self._settings
        return FetchRequest(
            replica_state=None,
            max_wait_ms=settings.fetch_max_wait_ms,
            min_bytes=settings.fetch_min_bytes,
            max_bytes=settings.fetch_max_bytes,
            isolation_level=settings.isolation_level,
            session_id=fetch.session_id,
            session_epoch=fetch.epoch,
            topics=list(topics.values()),
            forgotten_topics_data=list(forgotten.values()),
            rack_id=rack,
        )

    # Answers

    def _take_at_once(
        self, node_id: int, future: asyncio.Future[Any], response: Any, _size: int
    ) -> bool:
        """Whether an answer was taken in here: by a thread that does the loop's work, if it is plain."""
        under_way = self._under_way.get(node_id)
        if self.elsewhere is None or under_way is None or under_way.future is not future:
            return False
        if self.closed or not _is_plain(response):
            return False
        del self._under_way[node_id]
        self._take_answer(node_id, under_way, response)
        return True

    def _answered(self, node_id: int, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        under_way = self._under_way.get(node_id)
        if under_way is None or under_way.future is not future:
            return  # it was given up
        del self._under_way[node_id]
        if future.cancelled() or self.closed:
            return
        if error is not None:
            if not isinstance(error, KafkaError):
                error = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, repr(error))
            self._failed(node_id, error)
            return
        if self._take_answer(node_id, under_way, future.result()):
            self._on_news()

    def _take_answer(self, node_id: int, under_way: _UnderWay, response: Any) -> bool:
        """Whether there is something for the application. The next Fetch has left by then: the broker is to work meanwhile."""
        code = ErrorCode(response.error_code)
        session = self._sessions[node_id]
        session.answered(code, response.session_id)
        if code in _SESSION_ERRORS:
            log.debug("fetch session ended", node=node_id, error=code.name)
            if code in _ASK_METADATA:
                self._cluster.request_refresh()
                self._call_later(self._cluster.settings.retry_backoff_ms)
                return False
        elif code is not ErrorCode.NONE:
            self._failed(node_id, KafkaError(code, "Fetch"))
            return False
        news = False
        names = under_way.names
        for topic in response.responses:
            name = names.get(bytes(topic.topic_id)) if names else topic.topic
            for data in topic.partitions:
                found = under_way.asked.get(TopicPartition(name or "", data.partition_index))
                if found is not None and found.version == found.state.version:
                    news = self._take_partition(found, data) or news
        self.came += news
        self.maintain()
        return news

    def _take_partition(self, asked: _Asked, data: Any) -> bool:
        """Whether there is something for the application."""
        state = asked.state
        doubted = state.phase is not Phase.FETCH
        code = ErrorCode(data.error_code)
        if code is not ErrorCode.NONE:
            return not doubted and self._partition_failed(asked, data, code)
        state.high_watermark = data.high_watermark
        state.last_stable_offset = data.last_stable_offset
        if data.log_start_offset >= 0:
            state.log_start_offset = data.log_start_offset
        if doubted:
            # The next leader is being asked about what was read when the doubt arose: reading on would make its answer
            # one to another question, and records of a later epoch look truncated (``FetchCollector.initialize``).
            return False
        if data.diverging_epoch is not None and data.diverging_epoch.end_offset >= 0:
            state.phase = Phase.VALIDATE
            self._on_news()
            return False
        if data.preferred_read_replica >= 0:
            self._prefer(state, data.preferred_read_replica)
        if not data.records or state.fetch_offset != asked.offset:
            return False
        aborted = [(a.first_offset, a.producer_id) for a in data.aborted_transactions or ()]
        try:
            fetched = FetchedPartition(state, memoryview(data.records), aborted, self._reading)
        except KafkaError as error:
            return self._give_to_application(state, error)
        state.fetch_offset = max(fetched.end_offset, state.fetch_offset)
        state.fetch_epoch = fetched.last_epoch
        with self._lock:
            state.buffered += 1
            self._buffered_bytes += fetched.size_bytes
            self.completed.append(fetched)
        return True

    def _partition_failed(self, asked: _Asked, data: Any, code: ErrorCode) -> bool:
        state = asked.state
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            leader_id = self._cluster.metadata.leader_of(*state.topic_partition)
            if asked.node_id == state.preferred_replica or asked.node_id != leader_id:
                self._prefer_leader(state)  # who follows lags or leads: the leader decides
                return False
            if asked.offset != state.fetch_offset:
                return False  # another leader has answered meanwhile
            if state.position != state.fetch_offset:
                # What came before is still to be handed out; then the position itself is asked for.
                state.retry_at_ms = self._now_ms() + self._cluster.settings.retry_backoff_ms
                return False
            return self._out_of_range(state)
        if code is ErrorCode.UNKNOWN_SERVER_ERROR:
            log.warning("a broker could not answer", partition=str(state.topic_partition))
            self._prefer_leader(state)
            state.retry_at_ms = self._now_ms() + self._cluster.settings.retry_backoff_max_ms
            return False
        if code in _ASK_METADATA:
            leader = data.current_leader
            if leader is None or not self._cluster.metadata.new_leader(
                *state.topic_partition, leader.leader_id, leader.leader_epoch
            ):
                self._cluster.request_refresh()
            if state.preferred_replica >= 0:
                self._prefer_leader(state)
            state.retry_at_ms = self._now_ms() + self._cluster.settings.retry_backoff_ms
            return False
        return self._give_to_application(state, KafkaError(code, str(state.topic_partition)))

    def _out_of_range(self, state: PartitionState) -> bool:
        log.warning(
            "position is out of range",
            partition=str(state.topic_partition),
            offset=state.fetch_offset,
        )
        if self._settings.reset_timestamp is None:
            error = NoOffsetForPartition([state.topic_partition], out_of_range=True)
            return self._give_to_application(state, error)
        state.request_reset(self._settings.reset_timestamp)
        self._on_news()
        return False

    def _give_to_application(self, state: PartitionState, error: KafkaError) -> bool:
        state.retry_at_ms = self._now_ms() + self._cluster.settings.retry_backoff_max_ms
        self._on_failure(error, [state])
        return True

    def _failed(self, node_id: int, error: KafkaError) -> None:
        log.debug("fetch failed", node=node_id, error=str(error))
        session = self._sessions.get(node_id)
        if session is not None:
            session.failed()
        self._prefer_no_more(node_id)
        self._cluster.request_refresh()
        self._call_later(self._cluster.settings.retry_backoff_ms)
