"""DescribeTopicPartitions (key 75): topics with their partitions, in pages (KIP-966).

Behaviour
- Topics come in the order of their names, each once, partitions in that of their numbers; an empty list asks
  for every topic. A page holds at most ``response_partition_limit`` partitions, and no more than
  ``max.request.partition.size.limit``; the cursor of the answer says where the next one begins.
- Eligible leader replicas are not kept here: the lists are empty.

Errors, for each topic: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION; INVALID_REQUEST for all of them where
the cursor's topic is not among them, or its partition is negative. A partition without a leader has leader -1.
Source: ``DescribeTopicPartitionsRequestHandler``, ``KRaftMetadataCache``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.broker.authorized_operations import TOPIC_OPERATIONS
from ottla.controller import topic_names
from ottla.errors import ErrorCode
from ottla.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.metadata_cache import PartitionMetadata, TopicMetadata
    from ottla.network.request import Request

NO_LEADER = -1


def handle(broker: Broker, request: Request) -> DescribeTopicPartitionsResponse:
    """One page."""
    body: DescribeTopicPartitionsRequest = request.body
    asked = {topic.name for topic in body.topics}
    cursor = body.cursor
    if cursor is not None and (
        cursor.partition_index < 0 or (asked and cursor.topic_name not in asked)
    ):
        return DescribeTopicPartitionsResponse(
            topics=[_failed(name, ErrorCode.INVALID_REQUEST) for name in sorted(asked)]
        )
    start = (cursor.topic_name, cursor.partition_index) if cursor is not None else ("", 0)
    limit = min(body.response_partition_limit, broker.config.max_request_partition_size_limit)
    names = sorted(name for name in asked or broker.metadata.topics if name >= start[0])
    reachable = {node_id for node_id, *_ in broker.endpoints(request.connection.listener_name)}
    return _page(broker.metadata.topics, names, start, max(limit, 1), reachable)


def _page(
    topics: dict[str, TopicMetadata],
    names: Iterable[str],
    start: tuple[str, int],
    limit: int,
    reachable: set[int],
) -> DescribeTopicPartitionsResponse:
    response = DescribeTopicPartitionsResponse()
    for name in names:
        if limit == 0:
            response.next_cursor = Cursor(topic_name=name, partition_index=0)
            break
        topic = topics.get(name)
        if topic is None:
            known = topic_names.is_valid(name)
            code = (
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if known else ErrorCode.INVALID_TOPIC_EXCEPTION
            )
            response.topics.append(_failed(name, code))
            continue
        first = start[1] if name == start[0] else 0
        indexes = sorted(index for index in topic.partitions if index >= first)
        response.topics.append(_describe(topic, indexes[:limit], reachable))
        if len(indexes) > limit:
            response.next_cursor = Cursor(topic_name=name, partition_index=indexes[limit])
            break
        limit -= len(indexes)
    return response


def _failed(name: str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(name=name, error_code=code)


def _describe(
    topic: TopicMetadata, indexes: list[int], reachable: set[int]
) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=[_partition(index, topic.partitions[index], reachable) for index in indexes],
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _partition(
    index: int, partition: PartitionMetadata, reachable: set[int]
) -> DescribeTopicPartitionsResponsePartition:
    return DescribeTopicPartitionsResponsePartition(
        partition_index=index,
        leader_id=partition.leader if partition.leader in reachable else NO_LEADER,
        leader_epoch=partition.leader_epoch,
        replica_nodes=partition.replicas,
        isr_nodes=partition.isr,
        eligible_leader_replicas=[],
        last_known_elr=[],
        offline_replicas=partition.offline_replicas,
    )
