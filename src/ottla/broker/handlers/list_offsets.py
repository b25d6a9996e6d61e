"""ListOffsets (key 2): the offset at a time, or the first and last ones.

Behaviour
- Special timestamps: -1 latest (the high watermark, the last stable offset for read_committed), -2
  earliest, -3 the record with the largest timestamp (version 7), -4 earliest local (8; the earliest, as
  nothing is tiered), -5 latest tiered (9) and -6 earliest pending upload (11): none, so -1.
- A timestamp asks for the first record at or after it, below what the consumer may see; -1 if there is none.
- A follower is told of all of the log: its end is the latest offset.
- A leader that has not yet committed up to its epoch's start does not know the latest offset, nor of a time that
  there is no record (OFFSET_NOT_AVAILABLE; LEADER_NOT_AVAILABLE below version 5): an answer could go back later.

Errors: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH,
OFFSET_NOT_AVAILABLE, LEADER_NOT_AVAILABLE, UNSUPPORTED_VERSION for an unknown special timestamp,
INVALID_REQUEST for a partition named twice.
Source: ``KafkaApis.handleListOffsetRequest``, ``Partition.fetchOffsetForTimestamp``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.network.stepping import Steps, begun

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request
    from ottla.replication.partition import Partition

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6

SINCE_VERSION = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING_UPLOAD: 11}
READ_COMMITTED = 1

STEP_PARTITIONS = 50
"""How many partitions are looked up before others have their turn: one by its time may read the index."""


def handle(broker: Broker, request: Request) -> ListOffsetsResponse | Steps[ListOffsetsResponse]:
    """Answer every partition; many of them in steps, as if each were asked for alone."""
    return begun(_handle(broker, request))


def _handle(broker: Broker, request: Request) -> Steps[ListOffsetsResponse]:
    body: ListOffsetsRequest = request.body
    response = ListOffsetsResponse()
    times = Counter((t.name, p.partition_index) for t in body.topics for p in t.partitions)
    left = STEP_PARTITIONS
    for topic in body.topics:
        answers = ListOffsetsTopicResponse(name=topic.name)
        response.topics.append(answers)
        for wanted in {p.partition_index: p for p in topic.partitions}.values():
            answer = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
            answers.partitions.append(answer)
            try:
                if times[topic.name, wanted.partition_index] > 1:
                    raise KafkaError(ErrorCode.INVALID_REQUEST)
                partition = broker.replicas.leader_of(topic.name, wanted.partition_index)
                _look_up(partition, wanted, *_limit(partition, body), request.api_version, answer)
            except KafkaError as error:
                answer.error_code = error.code
                answer.offset = answer.timestamp = -1
            left -= 1
            if not left:
                left = STEP_PARTITIONS
                yield
    return response


def _limit(partition: Partition, body: ListOffsetsRequest) -> tuple[int, bool]:
    """Up to where (exclusive) who asks may see the log, and whether that is known to be all there is."""
    if body.replica_id >= 0:
        return partition.log.log_end_offset, True
    if body.isolation_level == READ_COMMITTED:
        return partition.last_stable_offset, partition.knows_its_latest_offset
    return partition.high_watermark, partition.knows_its_latest_offset


def _look_up(
    partition: Partition,
    wanted: ListOffsetsPartition,
    limit: int,
    is_known: bool,
    version: int,
    answer: ListOffsetsPartitionResponse,
) -> None:
    timestamp = wanted.timestamp
    if timestamp < EARLIEST_PENDING_UPLOAD or SINCE_VERSION.get(timestamp, 0) > version:
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)
    partition.require_leader(wanted.current_leader_epoch)
    answer.timestamp = -1
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        answer.offset = partition.log.log_start_offset
        answer.leader_epoch = _epoch_at(partition, answer.offset)
        return
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        answer.offset = -1
        return
    unknown = KafkaError(
        ErrorCode.OFFSET_NOT_AVAILABLE if version >= 5 else ErrorCode.LEADER_NOT_AVAILABLE
    )
    if timestamp == LATEST:
        if not is_known:
            raise unknown
        answer.offset = limit
        answer.leader_epoch = partition.leader_epoch
        return
    found = (
        partition.log.max_timestamp_offset()
        if timestamp == MAX_TIMESTAMP
        else partition.log.offset_for_timestamp(timestamp)
    )
    answer.offset = -1
    if found is not None and found.offset < limit:
        answer.offset = found.offset
        answer.timestamp = found.timestamp_ms
        answer.leader_epoch = _epoch_at(partition, found.offset)
    elif not is_known:
        raise unknown


def _epoch_at(partition: Partition, offset: int) -> int:
    epoch = partition.log.epochs.epoch_for(offset)
    return -1 if epoch is None else epoch
