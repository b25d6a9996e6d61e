"""DeleteRecords (key 21): let partitions start at a later offset (KIP-107).

Behaviour
- -1 stands for the high watermark. An offset below the log's start changes nothing. The answer tells where
  the log starts.
- The new start is on disk before anybody sees it: it does not go back, whatever crashes. Segments that lie
  below it are removed at once; what waits in a Fetch below it is told OFFSET_OUT_OF_RANGE.
- A partition that is named several times is asked for its last offset.
- Of many partitions some are looked at, and then others have their turn.
- The answer waits until all live replicas' logs start there, which they learn with their next fetches, but no longer
  than ``timeout_ms``.

Errors, for each partition: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE (behind the
high watermark, or below -1), REQUEST_TIMED_OUT (it has come to pass at the leader), POLICY_VIOLATION (a topic that is only compacted), INVALID_TOPIC_EXCEPTION (an
internal topic), KAFKA_STORAGE_ERROR (it may come to pass all the same).
Source: ``ReplicaManager.deleteRecords``, ``Partition.deleteRecordsOnLeader``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, TypeVar

from ottla.controller import topic_names
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request
    from ottla.replication.partition import Partition

INVALID_LOW_WATERMARK = -1

STEP_PARTITIONS = 100
"""How many partitions are looked at before others have their turn: some milliseconds."""

T = TypeVar("T")


class _Started:
    """Waits for followers."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[None]] = {}

    def wait_for(
        self, partition: Partition, offset: int, token: DeleteRecordsPartitionResult
    ) -> None:
        """Wait for the partition's; ``token`` is its answer."""
        if not partition.when_started(offset, self, token):
            self.waiting[id(token)] = asyncio.get_running_loop().create_future()

    def committed(self, token: object) -> None:
        """All live replicas' logs start there."""
        self._future(token).set_result(None)

    def failed(self, token: object, code: ErrorCode) -> None:
        """The partition is led elsewhere now, or its log directory has failed."""
        self._future(token).set_exception(KafkaError(code))

    def _future(self, token: object) -> asyncio.Future[None]:
        future = self.waiting[id(token)]
        return future if not future.done() else asyncio.get_running_loop().create_future()


async def _in_steps(items: Iterable[T]) -> AsyncIterator[T]:
    for number, item in enumerate(items, 1):
        yield item
        if number % STEP_PARTITIONS == 0:
            await asyncio.sleep(0)


async def handle(broker: Broker, request: Request) -> DeleteRecordsResponse:
    """Write all the new starts down at once, then move them, and wait for the followers."""
    body: DeleteRecordsRequest = request.body
    wanted = {
        (topic.name, each.partition_index): each.offset
        for topic in body.topics
        for each in topic.partitions
    }
    answers: dict[tuple[str, int], DeleteRecordsPartitionResult] = {}
    starts: dict[tuple[str, int], tuple[Partition, int]] = {}
    async for key, offset in _in_steps(wanted.items()):
        answers[key] = DeleteRecordsPartitionResult(partition_index=key[1])
        try:
            starts[key] = _target(broker, *key, offset)
        except KafkaError as error:
            _refuse(answers[key], error)
    moving = {p: offset for p, offset in starts.values() if offset > p.log.log_start_offset}
    failed = await broker.replicas.keep_log_starts(moving)
    started = _Started()
    async for key, (partition, offset) in _in_steps(starts.items()):
        try:
            if partition in failed:
                raise failed[partition]
            partition.delete_records(offset, broker.clock.now_ms())
            answers[key].low_watermark = partition.low_watermark
            started.wait_for(partition, offset, answers[key])
        except KafkaError as error:
            _refuse(answers[key], error)
    if started.waiting:
        await asyncio.wait(started.waiting.values(), timeout=max(0, body.timeout_ms) / 1000)
        async for key, (partition, _) in _in_steps(starts.items()):
            _settle(answers[key], started.waiting.get(id(answers[key])), partition)
    topics: dict[str, DeleteRecordsTopicResult] = {}
    async for (name, _), answer in _in_steps(answers.items()):
        topic = topics.setdefault(name, DeleteRecordsTopicResult(name=name))
        topic.partitions.append(answer)
    return DeleteRecordsResponse(topics=list(topics.values()))


def _target(broker: Broker, name: str, index: int, offset: int) -> tuple[Partition, int]:
    """The partition, and the offset that its log is to start at."""
    partition = broker.replicas.leader_of(name, index)
    if topic_names.is_internal(name):
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
    return partition, partition.deletable_to(offset)


def _settle(
    answer: DeleteRecordsPartitionResult, waited: asyncio.Future[None] | None, partition: Partition
) -> None:
    """What came of the waiting for the partition's followers, if there was any."""
    if waited is None:
        return
    if not waited.done():
        waited.cancel()
        answer.error_code = ErrorCode.REQUEST_TIMED_OUT
        return
    error = waited.exception()
    if isinstance(error, KafkaError):
        _refuse(answer, error)
    else:
        answer.low_watermark = partition.low_watermark


def _refuse(answer: DeleteRecordsPartitionResult, error: KafkaError) -> None:
    answer.error_code, answer.low_watermark = error.code, INVALID_LOW_WATERMARK
