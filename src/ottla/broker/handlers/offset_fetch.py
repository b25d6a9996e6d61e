"""OffsetFetch (key 9): where groups stopped reading.

Behaviour: -1 for a partition without a committed offset and for a group that is not known, which takes no
memory. Answered once the group's own commits before it are committed.
Versions: 1 has no error code but the partitions'; 2 null topics for everything the group committed; 7
RequireStable (without transactions every offset is stable); 8 many groups at once; 10 names topics by id,
and leaves out topics that are gone where everything is asked for.
Errors: UNKNOWN_TOPIC_ID for a partition; for a group a coordinator's, where a wait that failed is
NOT_COORDINATOR: clients before Kafka 3.9 know no other.
Source: ``KafkaApis.handleOffsetFetchRequest``, ``OffsetMetadataManager.fetchOffsets``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.groups.coordinator import FetchedOffsets, gather, then
from ottla.groups.offsets import CommittedOffset
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(
    broker: Broker, request: Request
) -> OffsetFetchResponse | asyncio.Future[OffsetFetchResponse]:
    """Answer one group (up to version 7) or many."""
    body: OffsetFetchRequest = request.body
    version = request.api_version
    if version < 8:
        topics = body.topics
        wanted = (
            None if topics is None else [(each.name, each.partition_indexes) for each in topics]
        )
        fetched = broker.groups.fetch_offsets(body.group_id, wanted)
        return then(fetched, partial(_single, topics or [], version))
    group_of = _group_by_id if version >= 10 else _group_by_name
    return then(gather([group_of(broker, group) for group in body.groups]), _batch)


def _single(
    asked: Sequence[OffsetFetchRequestTopic], version: int, fetched: FetchedOffsets
) -> OffsetFetchResponse:
    error = fetched.error
    if error is not ErrorCode.NONE and version < 2:
        return OffsetFetchResponse(
            topics=[
                OffsetFetchResponseTopic(
                    name=topic.name,
                    partitions=[
                        OffsetFetchResponsePartition(
                            partition_index=index,
                            committed_offset=-1,
                            metadata="",
                            error_code=error,
                        )
                        for index in topic.partition_indexes
                    ],
                )
                for topic in asked
            ]
        )
    topics = []
    for name, partitions in fetched.topics:
        answers = OffsetFetchResponseTopic(name=name)
        topics.append(answers)
        for index, committed in partitions:
            answers.partitions.append(
                OffsetFetchResponsePartition(
                    partition_index=index,
                    committed_offset=committed.offset if committed is not None else -1,
                    committed_leader_epoch=committed.leader_epoch if committed is not None else -1,
                    metadata=committed.metadata if committed is not None else "",
                )
            )
    return OffsetFetchResponse(error_code=error, topics=topics)


def _batch(groups: list[OffsetFetchResponseGroup]) -> OffsetFetchResponse:
    return OffsetFetchResponse(groups=groups)


def _group_by_name(
    broker: Broker, group: OffsetFetchRequestGroup
) -> OffsetFetchResponseGroup | asyncio.Future[OffsetFetchResponseGroup]:
    wanted = None
    if group.topics is not None:
        wanted = [(topic.name, topic.partition_indexes) for topic in group.topics]
    return then(
        broker.groups.fetch_offsets(group.group_id, wanted), partial(_named, group.group_id)
    )


def _named(group_id: str, fetched: FetchedOffsets) -> OffsetFetchResponseGroup:
    topics = []
    for name, partitions in fetched.topics:
        answers = _partitions(partitions)
        topics.append(OffsetFetchResponseTopics(name=name, partitions=answers))
    return OffsetFetchResponseGroup(group_id=group_id, error_code=fetched.error, topics=topics)


def _group_by_id(
    broker: Broker, group: OffsetFetchRequestGroup
) -> OffsetFetchResponseGroup | asyncio.Future[OffsetFetchResponseGroup]:
    metadata = broker.metadata
    ids: dict[str, bytes] = {}
    unknown: list[OffsetFetchResponseTopics] = []
    wanted: list[tuple[str, Sequence[int]]] | None = None
    if group.topics is not None:
        wanted = []
        for topic in group.topics:
            name = metadata.topic_name(topic.topic_id)
            if name is not None:
                ids[name] = topic.topic_id
                wanted.append((name, topic.partition_indexes))
                continue
            answers = _partitions([(index, None) for index in topic.partition_indexes])
            for answer in answers:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_ID
            unknown.append(OffsetFetchResponseTopics(topic_id=topic.topic_id, partitions=answers))

    def answer_group(fetched: FetchedOffsets) -> OffsetFetchResponseGroup:
        topics = []
        for name, partitions in fetched.topics:
            topic_id = ids.get(name) or metadata.topic_id(name)
            if topic_id is not None:
                found = _partitions(partitions)
                topics.append(OffsetFetchResponseTopics(topic_id=topic_id, partitions=found))
        if fetched.error is ErrorCode.NONE:
            topics += unknown
        return OffsetFetchResponseGroup(
            group_id=group.group_id, error_code=fetched.error, topics=topics
        )

    return then(broker.groups.fetch_offsets(group.group_id, wanted), answer_group)


def _partitions(
    partitions: list[tuple[int, CommittedOffset | None]],
) -> list[OffsetFetchResponsePartitions]:
    return [
        OffsetFetchResponsePartitions(
            partition_index=index,
            committed_offset=committed.offset if committed is not None else -1,
            committed_leader_epoch=committed.leader_epoch if committed is not None else -1,
            metadata=committed.metadata if committed is not None else "",
        )
        for index, committed in partitions
    ]
