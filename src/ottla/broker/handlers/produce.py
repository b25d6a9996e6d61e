"""Produce (key 0): append record batches and answer once they are as safe as the client asked.

Behaviour
- Every partition is appended to at once, in the order of the request; a partition that fails says so and
  the others go on.
- The small appends of the requests that came with one read are written together (``Gathering``); no answer
  leaves before that.
- acks=all answers when the high watermark has passed the partition's records, acks=1 at once, acks=0 not at
  all; where an acks=0 request fails, the connection is closed, which is all that can be said.
- DUPLICATE_SEQUENCE_NUMBER, which clients take for success, waits for that like any success.
- After ``timeout_ms`` what is not committed is answered with REQUEST_TIMED_OUT: it may yet be.
- Into an internal topic only the broker itself writes, and, as in Kafka, who calls itself Kafka's admin tool.
- A batch for a topic with another ``compression.type`` is rewritten in a thread, the partition's later
  appends queued behind it. Until then the request counts as one in flight, whatever its acks, and holds its
  part of the memory for requests; ``timeout_ms`` begins when everything is appended.

Versions: 0-2 are advertised (KAFKA-18659) and refused by closing the connection; 5 log start, 7 zstd, 8 record
errors and a message, 10 who leads instead and where (KIP-951), 13 topic ids.
Errors: INVALID_REQUIRED_ACKS, INVALID_TOPIC_EXCEPTION (an internal one), UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, NOT_LEADER_OR_FOLLOWER,
NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND, REQUEST_TIMED_OUT, KAFKA_STORAGE_ERROR, and those of ``Log.append_as_leader``.
Source: ``KafkaApis.handleProduceRequest``, ``ReplicaManager.appendRecords``, ``DelayedProduce``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ottla.broker.handlers.produce_errors import (
    LEADERS_SINCE,
    WITHOUT_LOG_START,
    fail,
    tell_leaders,
)
from ottla.broker.handlers.produce_run import kind_of, run_behind
from ottla.broker.handlers.refused_batches import SentBatch, log_refused, sent_batch
from ottla.broker.metadata_cache import INTERNAL_TOPICS
from ottla.errors import ErrorCode, KafkaError
from ottla.log.producer_state import AlreadyAppended
from ottla.logs import logger
from ottla.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.messages.produce_answer import produce_answer, produce_answers
from ottla.network.request import Answers, Unsettled
from ottla.replication.leading import ANY_EPOCH

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.log.log import AppendInfo
    from ottla.network.request import Kind, Request, Run
    from ottla.replication.partition import Partition

log = logger(__name__)

Answer: TypeAlias = "ProduceResponse | Answers | None"
Slot: TypeAlias = "tuple[Partition, AppendInfo, int] | PartitionProduceResponse"
"""What became of a partition's batch: where it was appended, with the log's ``undone`` behind that, or its answer."""
T = TypeVar("T")

ALL = -1
LEADER = 1
ADMIN_CLIENT_ID = "__admin_client"

# zstd came with version 7 (KIP-110): an older client must not put into a topic what its like cannot read.
ZSTD_SINCE = 7
ZSTD = 4
ATTRIBUTES_LOW = 22
IDS_SINCE = 13
CODEC_MASK = 7


def handle(broker: Broker, request: Request) -> Unsettled:
    """Append everything; answer or park once that is written."""
    body: ProduceRequest = request.body
    produce = _Produce(broker, body, request)
    noted = log.is_debug
    for topic in body.topic_data:
        name = topic.name
        if request.api_version >= IDS_SINCE:
            name = broker.metadata.topic_name(topic.topic_id) or ""
        slots: list[Slot] = []
        produce.topics.append((topic.name, topic.topic_id, slots))
        refused = produce.refusal(name)
        for data in topic.partition_data:
            sent = sent_batch(name, data.index, data.records) if noted else None
            if refused is not None:
                slot: Slot = _not_appended(data.index, refused)
            else:
                try:
                    slot = produce.append(name, data)
                except KafkaError as error:
                    slot = _not_appended(data.index, error)
            if sent is not None:
                slot = produce.noted(slot, sent)
            slots.append(slot)
    body.topic_data = []
    return produce


def _not_appended(index: int, error: KafkaError) -> PartitionProduceResponse:
    """The answer for a partition to which nothing was appended."""
    answer = PartitionProduceResponse(index=index)
    fail(answer, error)
    return answer


class _Produce(Unsettled):
    """One Produce request; the waiter of its partitions."""

    __slots__ = (
        "acks",
        "broker",
        "future",
        "gathered",
        "may_write_internal",
        "request",
        "response",
        "rewrites",
        "sent",
        "timeout_ms",
        "timer",
        "topics",
        "transactional",
        "unanswered",
        "version",
    )

    def __init__(self, broker: Broker, body: ProduceRequest, request: Request) -> None:
        self.broker = broker
        self.request = request
        self.version = request.api_version
        self.may_write_internal = request.client_id == ADMIN_CLIENT_ID
        self.acks = body.acks
        self.transactional = body.transactional_id is not None
        # Name, id and partitions of each topic, until it is settled: then there is the response, or what is sent.
        self.topics: list[tuple[str, bytes, list[Slot]]] = []
        self.response: ProduceResponse
        self.timeout_ms = body.timeout_ms
        self.rewrites = 0
        self.future: asyncio.Future[Answer] | None = None
        self.timer: asyncio.TimerHandle | None = None
        # What was appended but perhaps not written: partition, answer, end offset, the log's ``undone``.
        self.gathered: list[tuple[Partition, PartitionProduceResponse, int, int]] = []
        # Parked partitions' answers, by identity: they are the tokens of the waiters.
        self.unanswered: dict[int, PartitionProduceResponse] = {}
        # By the answer's identity, what is logged of a producer's batch if it is refused; mostly nothing is.
        self.sent: dict[int, SentBatch] = {}

    def noted(self, slot: Slot, batch: SentBatch) -> PartitionProduceResponse:
        """Keep what is to be logged of a batch if it is refused; returns its answer."""
        answer = self._answer(slot)
        self.sent[id(answer)] = batch
        if isinstance(slot, tuple):
            batch.appended(slot[1])
        return answer

    def refusal(self, name: str) -> KafkaError | None:
        """Why nothing is appended to any partition of a topic; None if there is no such reason."""
        if self.acks not in (-1, 0, 1):
            return KafkaError(ErrorCode.INVALID_REQUIRED_ACKS)
        if self.transactional:
            return KafkaError(
                ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                "transactions are not supported by this broker",
            )
        if not name and self.version >= IDS_SINCE:
            return KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        if name in INTERNAL_TOPICS and not self.may_write_internal:
            return KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot append to internal topic {name}"
            )
        return None

    def append(self, name: str, data: PartitionProduceData) -> Slot:
        """Append a partition's batch; raises ``KafkaError``."""
        records = data.records
        if not records:
            raise KafkaError(ErrorCode.INVALID_RECORD, "no record batch")
        assert isinstance(records, memoryview)
        if (
            self.version < ZSTD_SINCE
            and len(records) > ATTRIBUTES_LOW
            and records[ATTRIBUTES_LOW] & CODEC_MASK == ZSTD
        ):
            raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
        partition = self.broker.replicas.leader_of(name, data.index)
        try:
            outcome = partition.append_as_leader(
                records, self.request.received_ms, self.acks, True, self.broker.gathering
            )
        except KafkaError as error:
            answer = _not_appended(data.index, error)
            if error.code not in WITHOUT_LOG_START:
                answer.log_start_offset = partition.log.log_start_offset
            if isinstance(error, AlreadyAppended):
                self.gathered.append((partition, answer, error.end_offset, partition.log.undone))
            return answer
        if not isinstance(outcome, asyncio.Future):
            return partition, outcome, partition.log.undone
        answer = PartitionProduceResponse(index=data.index)
        self.unanswered[id(answer)] = answer
        self.rewrites += 1
        outcome.add_done_callback(lambda done: self._rewritten(partition, answer, done))
        return answer

    def _rewritten(
        self,
        partition: Partition,
        answer: PartitionProduceResponse,
        done: asyncio.Future[AppendInfo],
    ) -> None:
        self.rewrites -= 1
        self.unanswered.pop(id(answer), None)
        error = done.exception()
        if error is None:
            appended = done.result()
            self._appended(answer, appended)
            self._commit(partition, answer, appended.last_offset + 1, appended.leader_epoch)
        elif isinstance(error, KafkaError):
            fail(answer, error)
            if isinstance(error, AlreadyAppended):
                self._commit(partition, answer, error.end_offset)
        else:
            log.error("append failed", error=error, partition=repr(partition))
            fail(answer, KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR))
        if not self.rewrites:
            self._all_appended()
        self._settle()

    def _appended(self, answer: PartitionProduceResponse, appended: AppendInfo) -> None:
        answer.base_offset = appended.base_offset
        answer.log_append_time_ms = appended.log_append_time_ms
        answer.log_start_offset = appended.log_start_offset
        if self.sent and id(answer) in self.sent:
            self.sent[id(answer)].appended(appended)

    def _commit(
        self,
        partition: Partition,
        answer: PartitionProduceResponse,
        end: int,
        leader_epoch: int = ANY_EPOCH,
    ) -> None:
        """Park the answer, as it is, until all below ``end`` is committed, if it is to wait for that."""
        if self.acks != ALL:
            return
        try:
            if not partition.when_committed(end, self, answer, leader_epoch=leader_epoch):
                self.unanswered[id(answer)] = answer
        except KafkaError as error:
            fail(answer, error)

    def spreads(self) -> bool:
        """Whether it is for several partitions: a write for each, unless others bring more for them."""
        topics = self.topics
        return len(topics) > 1 or (len(topics) == 1 and len(topics[0][2]) > 1)

    def run(self) -> Run | None:
        """The requests behind it that are like it may follow, if all of it went one way: to one partition."""
        return self._with_what_is_like_it(run_behind)

    def kind(self) -> Kind | None:
        """What it has in common with later ones that are like it, under the same condition."""
        return self._with_what_is_like_it(kind_of)

    def _with_what_is_like_it(self, make: Callable[..., T | None]) -> T | None:
        """What ``make``, ``run_behind`` or ``kind_of``, makes of it; None where it did not go one way."""
        if self.version < ZSTD_SINCE or len(self.topics) != 1 or len(self.topics[0][2]) != 1:
            return None
        name, topic_id, (slot,) = self.topics[0]
        if isinstance(slot, tuple):
            partition = slot[0]
        elif self.gathered:
            partition = self.gathered[0][0]
        else:
            return None
        return make(
            self.broker,
            self.request,
            partition,
            TopicProduceResponse(name=name, topic_id=topic_id),
            acks=self.acks,
            timeout_ms=self.timeout_ms,
        )

    def settle(self) -> Answer | asyncio.Future[Answer]:
        """The answer, or a future of it; None instead of an answer for acks=0.

        What was gathered has been written now, or has failed.
        """
        encoded = self._encoded_at_once()
        if encoded is not None:
            return encoded
        self.response = ProduceResponse(
            responses=[
                TopicProduceResponse(
                    name=name,
                    topic_id=topic_id,
                    partition_responses=[self._answer(slot) for slot in slots],
                )
                for name, topic_id, slots in self.topics
            ]
        )
        self.topics.clear()
        for partition, answer, end_offset, undone in self.gathered:
            log = partition.log
            if log.unusable is None and (log.undone == undone or log.kept(end_offset, undone)):
                if self.acks == ALL:
                    self._commit(partition, answer, end_offset)
            else:
                fail(answer, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the write failed"))
        self.gathered.clear()
        if self.unanswered:
            self.future = self.broker.loop.create_future()
        if not self.rewrites:
            self._all_appended()
        return self._outcome() if self.future is None else self.future

    def _encoded_at_once(self) -> Answers | None:
        """The answer if it is of the kind that most are: one topic, all of it written, which is all that was asked for."""
        if self.acks != LEADER or len(self.topics) != 1:
            return None
        name, topic_id, slots = self.topics[0]
        indexes: list[int] = []
        appends: list[AppendInfo] = []
        for slot in slots:
            if not isinstance(slot, tuple):
                return None
            partition, appended, undone = slot
            log = partition.log
            if log.unusable is not None or log.undone != undone:
                return None
            indexes.append(partition.index)
            appends.append(appended)
        template = produce_answers(self.version, name, topic_id, len(indexes))
        if template is None:
            return None
        self.topics.clear()
        self.request.release()
        base_offsets, _, times_ms, starts, *_ = zip(*appends, strict=True)
        return Answers(
            template.encoded(self.request.correlation_id, indexes, base_offsets, times_ms, starts)
        )

    def _answer(self, slot: Slot) -> PartitionProduceResponse:
        """A partition's answer; what was appended is looked at when the request is settled."""
        if not isinstance(slot, tuple):
            return slot
        partition, appended, undone = slot
        answer = PartitionProduceResponse(index=partition.index)
        self._appended(answer, appended)
        self.gathered.append((partition, answer, appended.last_offset + 1, undone))
        return answer

    def _all_appended(self) -> None:
        """The records are in the log: a parked answer needs no frame, and its time begins."""
        self.request.release()
        if self.unanswered and self.future is not None and not self.future.done():
            self.timer = self.broker.loop.call_later(
                max(0, self.timeout_ms) / 1000, self._timed_out
            )

    def _outcome(self) -> Answer:
        if self.sent:
            self._log_refused()
        if self.acks:
            encoded = self._from_template()
            if encoded is not None:
                return encoded
            if self.version >= LEADERS_SINCE:
                tell_leaders(self.broker, self.response, self.request.connection.listener_name)
            return self.response
        self._close_if_failed()
        return None

    def _log_refused(self) -> None:
        for topic in self.response.responses:
            for answer in topic.partition_responses:
                batch = self.sent.get(id(answer))
                if answer.error_code and batch is not None:
                    partition = self.broker.replicas.get(batch.topic, batch.index)
                    log_refused(partition, batch, answer)

    def _from_template(self) -> Answers | None:
        """The answer, encoded, if it is of the kind that most are: one partition, and all well."""
        responses = self.response.responses
        if len(responses) != 1 or len(responses[0].partition_responses) != 1:
            return None
        topic = responses[0]
        (answer,) = topic.partition_responses
        if answer.error_code:
            return None
        template = produce_answer(self.version, topic.name, topic.topic_id, answer.index)
        if template is None:
            return None
        return Answers(
            template.encoded(
                self.request.correlation_id,
                answer.base_offset,
                answer.log_append_time_ms,
                answer.log_start_offset,
            )
        )

    def committed(self, token: object) -> None:
        """A partition's records are committed."""
        self.unanswered.pop(id(token), None)
        self._settle()

    def failed(self, token: object, code: ErrorCode) -> None:
        """A partition's leadership or log directory went before they were."""
        answer = self.unanswered.pop(id(token), None)
        if answer is not None:
            fail(answer, KafkaError(code))
        self._settle()

    def _timed_out(self) -> None:
        for answer in self.unanswered.values():
            fail(answer, KafkaError(ErrorCode.REQUEST_TIMED_OUT))
        self.unanswered.clear()
        self._settle()

    def _settle(self) -> None:
        if not self.unanswered and self.future is not None:
            if self.timer is not None:
                self.timer.cancel()
            outcome = self._outcome()  # may hang up, which cancels the future
            if not self.future.done():
                self.future.set_result(outcome)

    def _close_if_failed(self) -> None:
        """acks=0: an error can only be told by closing the connection."""
        for topic in self.response.responses:
            for answer in topic.partition_responses:
                if answer.error_code:
                    self.request.connection.close(
                        "a Produce with acks=0 failed",
                        topic=topic.name,
                        partition=answer.index,
                        error=ErrorCode(answer.error_code).name,
                    )
                    return
