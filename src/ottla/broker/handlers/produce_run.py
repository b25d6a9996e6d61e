"""Produce requests that are like the one before them: the same partition, acks and time-out, in one read.

Each batch goes through ``Partition.append_as_leader`` like any other, in its turn, and is refused or kept by
itself. What a run saves is everything around that: objects for each request and its answer, a future and a
timer each. ``produce`` says what holds of the answers; with acks=all, those of one run leave together, when
the last one's records are committed (one write, one sync), or what is not committed when time is up or the
leader goes is told so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from ottla.broker.handlers.produce_errors import (
    LEADERS_SINCE,
    WITHOUT_LOG_START,
    fail,
    tell_leaders,
)
from ottla.broker.handlers.refused_batches import SentBatch, log_refused, sent_batch
from ottla.errors import ErrorCode, KafkaError
from ottla.log.producer_state import AlreadyAppended
from ottla.logs import logger
from ottla.messages.produce import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from ottla.messages.produce_answer import ProduceAnswer, produce_answer
from ottla.messages.registry import encode_response, encode_size
from ottla.network.request import Answers, Request, Run

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.log.log import AppendInfo
    from ottla.network.budget import SharedBudget
    from ottla.replication.partition import Partition

log = logger(__name__)

ALL = -1
PRODUCE = 0


_new = tuple.__new__  # a named tuple's own constructor costs twice as much


class _Taken(NamedTuple):
    """One request: what was appended, or why not."""

    correlation_id: int
    appended: AppendInfo | None
    undone: int
    """The log's, behind the append."""
    refused: PartitionProduceResponse | None
    """Not the error itself: its traceback would keep the records, and the run, alive."""
    sent: SentBatch | None
    """What is logged of it if it is refused."""


class ProduceKind:
    """Requests to one partition that differ in nothing but the correlation id and the records."""

    __slots__ = (
        "__weakref__",
        "acks",
        "answer",
        "broker",
        "index",
        "listener",
        "partition",
        "timeout_ms",
        "topic",
        "topic_id",
        "version",
    )

    def __init__(
        self,
        broker: Broker,
        first: Request,
        partition: Partition,
        topic: TopicProduceResponse,
        acks: int,
        timeout_ms: int,
        answer: ProduceAnswer,
    ) -> None:
        """Made by ``kind_of``; ``topic`` is the answer of ``first``."""
        self.broker = broker
        self.partition = partition
        self.topic, self.topic_id = topic.name, topic.topic_id
        self.index = partition.index
        self.version = first.api_version
        self.listener = first.connection.listener_name
        self.acks = acks
        self.timeout_ms = timeout_ms
        self.answer = answer

    def begin(
        self, received_ms: int, started_s: float, budget: SharedBudget | None
    ) -> ProduceRun | None:
        """An empty run of such requests; None where the partition is another one by now, or is led elsewhere."""
        partition = self.partition
        if (
            not partition.appends_at_once
            or not partition.is_leader
            or self.broker.replicas.get(partition.topic, self.index) is not partition
        ):
            return None
        return ProduceRun(self, received_ms, started_s, budget)


_kinds: WeakValueDictionary[tuple[object, ...], ProduceKind] = WeakValueDictionary()
"""Those of which somebody sends requests: what comes from several connections is of the same kind."""


class ProduceRun(Run):
    """Requests of one kind that came together; the waiter of all of them."""

    __slots__ = (
        "_acks",
        "_answer",
        "_broker",
        "_end_offset",
        "_future",
        "_gathering",
        "_index",
        "_listener",
        "_noted",
        "_now_ms",
        "_partition",
        "_taken",
        "_timeout_ms",
        "_timer",
        "_topic",
        "_topic_id",
        "_undone",
    )

    def __init__(
        self, kind: ProduceKind, received_ms: int, started_s: float, budget: SharedBudget | None
    ) -> None:
        """An empty one, which gives its requests' bytes back to ``budget``."""
        super().__init__(PRODUCE, kind.version, started_s, budget)
        self._broker = kind.broker
        self._gathering = kind.broker.gathering
        self._noted = log.is_debug
        self._partition = kind.partition
        self._undone = kind.partition.log.undone
        self._topic, self._topic_id = kind.topic, kind.topic_id
        self._index = kind.index
        self._acks = kind.acks
        self._timeout_ms = kind.timeout_ms
        self._answer = kind.answer
        self._now_ms = received_ms
        self._listener = kind.listener
        self._taken: list[_Taken] = []
        self._end_offset = 0
        self._future: asyncio.Future[Answers] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def take(self, correlation_id: int, records: memoryview) -> bool:
        """Append one more batch; a request without one, or with one that is there already, is for ``produce``."""
        if not records:
            return False
        partition = self._partition
        sent = sent_batch(partition.topic, self._index, records) if self._noted else None
        try:
            appended = partition.append_as_leader(
                records, self._now_ms, self._acks, True, self._gathering
            )
        except AlreadyAppended:
            return False  # its answer waits for another offset than the run's
        except KafkaError as error:
            known = error.code not in WITHOUT_LOG_START
            start = partition.log.log_start_offset if known else -1
            self._refuse(correlation_id, error, start, sent)
        except Exception as error:
            log.error("a request failed", error=error, partition=repr(partition))
            self._refuse(correlation_id, KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR), -1, sent)
        else:
            assert not isinstance(appended, asyncio.Future)  # see ``appends_at_once``
            end_offset = appended.last_offset + 1
            if end_offset > self._end_offset:
                self._end_offset = end_offset
            if sent is not None:
                sent.appended(appended)
            undone = partition.log.undone
            self._taken.append(_new(_Taken, (correlation_id, appended, undone, None, sent)))
        return True

    def _refuse(
        self,
        correlation_id: int,
        error: KafkaError,
        log_start_offset: int,
        sent: SentBatch | None,
    ) -> None:
        refused = PartitionProduceResponse(index=self._index, log_start_offset=log_start_offset)
        fail(refused, error)
        self._taken.append(_Taken(correlation_id, None, 0, refused, sent))

    def settle(self) -> Answers | asyncio.Future[Answers]:
        """What was gathered has been written now, or has failed."""
        self.release()
        partition = self._partition
        if partition.log.unusable is not None:
            self._taken = [self._unwritten(one) for one in self._taken]
        elif partition.log.undone != self._undone:
            kept = partition.log.kept
            self._taken = [
                one
                if one.appended is None or kept(one.appended.last_offset + 1, one.undone)
                else self._unwritten(one)
                for one in self._taken
            ]
        if self._acks != ALL or all(one.refused is not None for one in self._taken):
            return self._encoded(None)
        try:
            if partition.when_committed(self._end_offset, self, self):
                return self._encoded(None)
        except KafkaError as error:
            self._taken = [self._failed(one, error) for one in self._taken]
            return self._encoded(None)
        loop = self._broker.loop
        self._future = loop.create_future()
        self._timer = loop.call_later(max(0, self._timeout_ms) / 1000, self._timed_out)
        return self._future

    def _unwritten(self, one: _Taken) -> _Taken:
        return self._failed(one, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the write failed"))

    def _failed(self, one: _Taken, error: KafkaError) -> _Taken:
        if one.appended is None:
            return one
        return one._replace(refused=self._not_kept(one.appended, error))

    def _not_kept(self, appended: AppendInfo, error: KafkaError) -> PartitionProduceResponse:
        refused = PartitionProduceResponse(
            index=self._index,
            log_append_time_ms=appended.log_append_time_ms,
            log_start_offset=appended.log_start_offset,
        )
        fail(refused, error)
        return refused

    def committed(self, token: object) -> None:
        """All of it is committed."""
        self._settle(None)

    def failed(self, token: object, code: ErrorCode) -> None:
        """The partition's leadership or log directory went before that."""
        self._settle(KafkaError(code))

    def _timed_out(self) -> None:
        self._settle(KafkaError(ErrorCode.REQUEST_TIMED_OUT))

    def _settle(self, uncommitted: KafkaError | None) -> None:
        assert self._timer is not None
        assert self._future is not None
        self._timer.cancel()
        if not self._future.done():
            self._future.set_result(self._encoded(uncommitted))

    def _encoded(self, uncommitted: KafkaError | None) -> Answers:
        """``uncommitted``: what those are told whose records are not committed; None where all are."""
        encoded = self._answer.encoded
        high_watermark = self._partition.high_watermark
        out: list[bytes] = []
        codes: list[int] = []
        for one in self._taken:
            appended, refused = one.appended, one.refused
            if refused is None:
                assert appended is not None
                if uncommitted is None or appended.last_offset < high_watermark:
                    out.append(
                        encoded(
                            one.correlation_id,
                            appended.base_offset,
                            appended.log_append_time_ms,
                            appended.log_start_offset,
                        )
                    )
                    continue
                refused = self._not_kept(appended, uncommitted)
            if one.sent is not None:
                log_refused(self._partition, one.sent, refused)
            codes.append(refused.error_code)
            out.append(self._refusal(one.correlation_id, refused))
        return Answers(b"".join(out), tuple(codes), out)

    def _refusal(self, correlation_id: int, partition: PartitionProduceResponse) -> bytes:
        topic = TopicProduceResponse(
            name=self._topic, topic_id=self._topic_id, partition_responses=[partition]
        )
        message = ProduceResponse(responses=[topic])
        if self.api_version >= LEADERS_SINCE:
            tell_leaders(self._broker, message, self._listener)
        chunks = encode_response(PRODUCE, self.api_version, correlation_id, message)
        return encode_size(chunks) + b"".join(bytes(chunk) for chunk in chunks)


def kind_of(
    broker: Broker,
    first: Request,
    partition: Partition,
    topic: TopicProduceResponse,
    *,
    acks: int,
    timeout_ms: int,
) -> ProduceKind | None:
    """The kind of ``first``, which was appended to ``partition`` and nowhere else; None where it is of none."""
    if not acks or not partition.appends_at_once:
        return None
    index = partition.index
    version, listener = first.api_version, first.connection.listener_name
    key = (partition, topic.name, topic.topic_id, index, version, listener, acks, timeout_ms)
    kind = _kinds.get(key)
    if kind is not None:
        return kind
    answer = produce_answer(version, topic.name, topic.topic_id, index)
    if answer is None:
        return None
    kind = _kinds[key] = ProduceKind(broker, first, partition, topic, acks, timeout_ms, answer)
    return kind


def run_behind(
    broker: Broker,
    first: Request,
    partition: Partition,
    topic: TopicProduceResponse,
    *,
    acks: int,
    timeout_ms: int,
) -> ProduceRun | None:
    """A run behind ``first``, which was appended to ``partition`` and nowhere else; None where none can be."""
    kind = kind_of(broker, first, partition, topic, acks=acks, timeout_ms=timeout_ms)
    if kind is None:
        return None
    return ProduceRun(kind, first.received_ms, first.started_s, first.budget)
