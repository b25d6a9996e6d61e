"""Metadata (key 3): the brokers, and for topics who leads each partition.

Behaviour
- A null list asks for every topic (version 0: an empty one does).
- A topic that does not exist is created, where the client allows it (version 4), the broker allows it
  (``auto.create.topics.enable``) and the name is one; the answer waits for the creation, so that the first
  send of a client does not wait for its retry back-off.
- Endpoints are those of the listener that the client came in on.

Versions: 1 controller and internal topics, 5 offline replicas, 7 leader epoch, 8 authorized operations, 10
topic ids, 12 look-up by id, 13 a top-level error.
Errors: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_TOPIC_EXCEPTION, LEADER_NOT_AVAILABLE,
INVALID_REPLICATION_FACTOR (auto-creation).
Source: ``KafkaApis.handleTopicMetadataRequest``.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ottla.broker.authorized_operations import CLUSTER_OPERATIONS, TOPIC_OPERATIONS
from ottla.broker.metadata_cache import TopicMetadata
from ottla.errors import ErrorCode
from ottla.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

NO_LEADER = -1


def handle(
    broker: Broker, request: Request
) -> MetadataResponse | Coroutine[Any, Any, MetadataResponse]:
    """Answer at once, unless a topic must be created first."""
    missing = _to_create(broker, request)
    return _create_first(broker, request, missing) if missing else _answer(broker, request, {})


def _to_create(broker: Broker, request: Request) -> list[str]:
    body: MetadataRequest = request.body
    allowed = body.allow_auto_topic_creation or request.api_version < 4
    if body.topics is None or not allowed or not broker.config.auto_create_topics_enable:
        return []
    names = (t.name for t in body.topics if t.name is not None and t.topic_id == ZERO_ID)
    return [name for name in dict.fromkeys(names) if name not in broker.metadata.topics]


async def _create_first(broker: Broker, request: Request, names: list[str]) -> MetadataResponse:
    errors = await broker.auto_create_topics(names)
    return _answer(broker, request, errors)


def _answer(broker: Broker, request: Request, errors: dict[str, ErrorCode]) -> MetadataResponse:
    body: MetadataRequest = request.body
    version = request.api_version
    cache = broker.metadata
    everything = body.topics is None or (version == 0 and not body.topics)
    if everything:
        topics = [_describe(topic, version) for topic in cache.topics.values()]
    else:
        topics = []
        for wanted in body.topics or ():
            if wanted.topic_id != ZERO_ID and version >= 12:
                name = cache.topic_name(wanted.topic_id)
                unknown = ErrorCode.UNKNOWN_TOPIC_ID
            else:
                name, unknown = wanted.name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            topic = cache.topics.get(name) if name is not None else None
            if topic is not None:
                topics.append(_describe(topic, version))
            else:
                topics.append(
                    MetadataResponseTopic(
                        error_code=errors.get(name or "", unknown),
                        name=wanted.name if wanted.name is not None or version >= 12 else "",
                        topic_id=wanted.topic_id,
                    )
                )
    if body.include_topic_authorized_operations:
        for answer in topics:
            if not answer.error_code:
                answer.topic_authorized_operations = TOPIC_OPERATIONS
    response = MetadataResponse(
        brokers=[
            MetadataResponseBroker(node_id=node_id, host=host, port=port, rack=rack)
            for node_id, host, port, rack in broker.endpoints(request.connection.listener_name)
        ],
        cluster_id=broker.cluster_id,
        controller_id=cache.controller_id,
        topics=topics,
    )
    if body.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response


def _describe(topic: TopicMetadata, version: int) -> MetadataResponseTopic:
    answer = MetadataResponseTopic(
        name=topic.name, topic_id=topic.topic_id, is_internal=topic.is_internal
    )
    for index, partition in topic.partitions.items():
        leaderless = partition.leader < 0
        answer.partitions.append(
            MetadataResponsePartition(
                error_code=ErrorCode.LEADER_NOT_AVAILABLE if leaderless else ErrorCode.NONE,
                partition_index=index,
                leader_id=NO_LEADER if leaderless else partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=partition.replicas,
                isr_nodes=partition.isr,
                offline_replicas=partition.offline_replicas,
            )
        )
    return answer
