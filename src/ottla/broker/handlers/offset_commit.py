"""OffsetCommit (key 8): remember how far a group has read.

Behaviour: answered once the offsets are committed in ``__consumer_offsets``. A generation of -1 commits for a
group that nobody manages, or that is empty.
Versions: 2-4 may bring their own retention; 6 leader epochs; 7 static members; 9 answers an unknown group
with GROUP_ID_NOT_FOUND (before: ILLEGAL_GENERATION); 10 names topics by id.
Errors, for each partition: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, OFFSET_METADATA_TOO_LARGE,
INVALID_COMMIT_OFFSET_SIZE, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS,
GROUP_ID_NOT_FOUND, and a coordinator's three.
Source: ``KafkaApis.handleOffsetCommitRequest``, ``OffsetMetadataManager.commitOffset``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.groups.coordinator import Commit, then
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(
    broker: Broker, request: Request
) -> OffsetCommitResponse | asyncio.Future[OffsetCommitResponse]:
    """Commit the offsets of those partitions that exist."""
    body: OffsetCommitRequest = request.body
    metadata = broker.metadata
    by_id = request.api_version >= 10
    response = OffsetCommitResponse()
    commits: list[Commit] = []
    parked: list[OffsetCommitResponsePartition] = []
    for topic in body.topics:
        answers = OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id)
        response.topics.append(answers)
        name = metadata.topic_name(topic.topic_id) if by_id else topic.name
        for given in topic.partitions:
            index = given.partition_index
            answer = OffsetCommitResponsePartition(partition_index=index)
            answers.partitions.append(answer)
            if name is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_ID
            elif not metadata.has_partition(name, index):
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                parked.append(answer)
                commits.append(
                    Commit(
                        name,
                        index,
                        given.committed_offset,
                        given.committed_leader_epoch,
                        given.committed_metadata or "",
                    )
                )
    if not commits:
        return response
    codes = broker.groups.commit_offsets(
        body.group_id,
        body.member_id,
        body.group_instance_id,
        body.generation_id_or_member_epoch,
        commits,
        retention_ms=body.retention_time_ms,
        unknown_group=ErrorCode.GROUP_ID_NOT_FOUND
        if request.api_version >= 9
        else ErrorCode.ILLEGAL_GENERATION,
    )
    return then(codes, partial(_fill, response, parked))


def _fill(
    response: OffsetCommitResponse,
    parked: list[OffsetCommitResponsePartition],
    codes: list[ErrorCode],
) -> OffsetCommitResponse:
    for answer, code in zip(parked, codes, strict=True):
        answer.error_code = code
    return response
