"""OffsetDelete (key 47): forget what a group has committed in some partitions (KIP-496).

Behaviour: answered once the tombstones are committed. Partitions without an offset are answered like others.
A partition that is named several times is told once.
Errors, for each partition: UNKNOWN_TOPIC_OR_PARTITION, GROUP_SUBSCRIBED_TO_TOPIC (a member reads the topic);
the request's GROUP_ID_NOT_FOUND, INVALID_GROUP_ID, NON_EMPTY_GROUP (its members are no consumers, so that
nobody knows what they read), and a coordinator's three.
Source: ``KafkaApis.handleOffsetDeleteRequest``, ``OffsetMetadataManager.deleteOffsets``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.groups.coordinator import DeletedOffsets, then
from ottla.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    import asyncio

    from ottla.broker.broker import Broker
    from ottla.network.request import Request

Codes = dict[tuple[str, int], ErrorCode]


def handle(
    broker: Broker, request: Request
) -> OffsetDeleteResponse | asyncio.Future[OffsetDeleteResponse]:
    """Delete the offsets of those partitions that exist."""
    body: OffsetDeleteRequest = request.body
    codes: Codes = {
        (topic.name, each.partition_index): ErrorCode.NONE
        if broker.metadata.has_partition(topic.name, each.partition_index)
        else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        for topic in body.topics
        for each in topic.partitions
    }
    existing = [key for key, code in codes.items() if code is ErrorCode.NONE]
    outcome = broker.groups.delete_offsets(body.group_id, existing)
    return then(outcome, partial(_answer, codes))


def _answer(codes: Codes, outcome: DeletedOffsets) -> OffsetDeleteResponse:
    if outcome.error is not ErrorCode.NONE:
        return OffsetDeleteResponse(error_code=outcome.error)
    topics: dict[str, OffsetDeleteResponseTopic] = {}
    for (name, index), code in {**codes, **outcome.codes}.items():
        topic = topics.setdefault(name, OffsetDeleteResponseTopic(name=name))
        topic.partitions.append(
            OffsetDeleteResponsePartition(partition_index=index, error_code=code)
        )
    return OffsetDeleteResponse(topics=list(topics.values()))
