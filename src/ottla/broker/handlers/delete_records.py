"""DeleteRecords (key 21): let partitions start at a later offset (KIP-107).

Behaviour
- -1 stands for the high watermark. An offset below the log's start changes nothing. The answer tells where
  the log starts.
- The new start is on disk before anybody sees it: it does not go back, whatever crashes. Segments that lie
  below it are removed at once; what waits in a Fetch below it is told OFFSET_OUT_OF_RANGE.
- A partition that is named several times is asked for its last offset. ``timeout_ms`` is for followers: there
  are none to wait for.

Errors, for each partition: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE (behind the
high watermark, or below -1), POLICY_VIOLATION (a topic that is only compacted), INVALID_TOPIC_EXCEPTION (an
internal topic), KAFKA_STORAGE_ERROR (it may come to pass all the same).
Source: ``ReplicaManager.deleteRecords``, ``Partition.deleteRecordsOnLeader``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


async def handle(broker: Broker, request: Request) -> DeleteRecordsResponse:
    """Write all the new starts down at once, then move them."""
    body: DeleteRecordsRequest = request.body
    wanted = {
        (topic.name, each.partition_index): each.offset
        for topic in body.topics
        for each in topic.partitions
    }
    answers: dict[tuple[str, int], DeleteRecordsPartitionResult] = {}
    starts: dict[tuple[str, int], tuple[Partition, int]] = {}
    for key, offset in wanted.items():
        answers[key] = DeleteRecordsPartitionResult(partition_index=key[1])
        try:
            starts[key] = _target(broker, *key, offset)
        except KafkaError as error:
            _refuse(answers[key], error)
    moving = {p: offset for p, offset in starts.values() if offset > p.log.log_start_offset}
    failed = await broker.replicas.keep_log_starts(moving)
    for key, (partition, offset) in starts.items():
        try:
            if partition in failed:
                raise failed[partition]
            answers[key].low_watermark = partition.delete_records(offset, broker.clock.now_ms())
        except KafkaError as error:
            _refuse(answers[key], error)
    topics: dict[str, DeleteRecordsTopicResult] = {}
    for (name, _), answer in answers.items():
        topic = topics.setdefault(name, DeleteRecordsTopicResult(name=name))
        topic.partitions.append(answer)
    return DeleteRecordsResponse(topics=list(topics.values()))


def _target(broker: Broker, name: str, index: int, offset: int) -> tuple[Partition, int]:
    """The partition, and the offset that its log is to start at."""
    partition = broker.replicas.leader_of(name, index)
    if topic_names.is_internal(name):
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
    return partition, partition.deletable_to(offset)


def _refuse(answer: DeleteRecordsPartitionResult, error: KafkaError) -> None:
    answer.error_code, answer.low_watermark = error.code, INVALID_LOW_WATERMARK
