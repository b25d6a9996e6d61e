"""Metadata (key 3): the brokers, and for topics who leads each partition.

Behaviour
- A null list asks for every topic (version 0: an empty one does).
- A topic that does not exist is created, where the client allows it (version 4), the broker allows it
  (``auto.create.topics.enable``) and the name is one; the answer waits for the creation, so that the first
  send of a client does not wait for its retry back-off.
- Many topics are told of in steps: each as it is at some moment of the request.
- A topic that is asked for several times is told once: the response is bounded by what there is.
- Endpoints are those of the listener that the client came in on. A leader without that listener is none
  (LISTENER_NOT_FOUND; LEADER_NOT_AVAILABLE below version 6), nor is one that is not up any more.

Versions: 1 controller and internal topics, 5 offline replicas, 7 leader epoch, 8 authorized operations, 10
topic ids, 12 look-up by id, 13 a top-level error.
Errors: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_TOPIC_EXCEPTION, LEADER_NOT_AVAILABLE,
LISTENER_NOT_FOUND, INVALID_REPLICATION_FACTOR (auto-creation), INVALID_REQUEST (an id before version 12).
Source: ``KafkaApis.handleTopicMetadataRequest``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from ottla.broker.authorized_operations import CLUSTER_OPERATIONS, TOPIC_OPERATIONS
from ottla.broker.metadata_cache import TopicMetadata
from ottla.controller import topic_names
from ottla.errors import ErrorCode
from ottla.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ottla.network.stepping import Steps, begun
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

NO_LEADER = -1

STEP_PARTITIONS = 300
"""How many topics and partitions are told of before others have their turn: some half a millisecond."""

LISTENER_NOT_FOUND_SINCE = 6
IDS_SINCE = 12


def handle(
    broker: Broker, request: Request
) -> MetadataResponse | Steps[MetadataResponse] | Coroutine[Any, Any, MetadataResponse]:
    """Answer at once, unless a topic must be created first, or there are very many."""
    if request.api_version < IDS_SINCE and _asks_by_id(request.body):
        return _refusal(request.body)
    missing = _to_create(broker, request)
    if missing:
        return _create_first(broker, request, missing)
    return begun(_answer(broker, request, {}))


def _asks_by_id(body: MetadataRequest) -> bool:
    return any(topic.name is None or topic.topic_id != ZERO_ID for topic in body.topics or ())


def _refusal(body: MetadataRequest) -> MetadataResponse:
    """The answer to ids in versions 10 and 11, which have the field but not the meaning."""
    topics = [
        MetadataResponseTopic(
            error_code=ErrorCode.INVALID_REQUEST, name=topic.name or "", topic_id=topic.topic_id
        )
        for topic in body.topics or ()
    ]
    return MetadataResponse(topics=topics)


def _to_create(broker: Broker, request: Request) -> list[str]:
    body: MetadataRequest = request.body
    allowed = body.allow_auto_topic_creation or request.api_version < 4
    if body.topics is None or not allowed or not broker.config.auto_create_topics_enable:
        return []
    names = (t.name for t in body.topics if t.name is not None and t.topic_id == ZERO_ID)
    return [name for name in dict.fromkeys(names) if name not in broker.metadata.topics]


async def _create_first(broker: Broker, request: Request, names: list[str]) -> MetadataResponse:
    errors = await broker.topic_creation.create(names)
    steps = _answer(broker, request, errors)
    response = begun(steps)
    while isinstance(response, Generator):
        await asyncio.sleep(0)
        response = begun(steps)
    return response


def _answer(
    broker: Broker, request: Request, errors: dict[str, ErrorCode]
) -> Steps[MetadataResponse]:
    body: MetadataRequest = request.body
    version = request.api_version
    cache = broker.metadata
    brokers = [
        MetadataResponseBroker(node_id=node_id, host=host, port=port, rack=rack)
        for node_id, host, port, rack in broker.endpoints(request.connection.listener_name)
    ]
    wanted = dict.fromkeys(_identity(topic, version) for topic in body.topics or ())
    every = body.topics is None or (version == 0 and not body.topics)
    if every:
        wanted = dict.fromkeys((name, ZERO_ID) for name in cache.topics)
    unreachable = _unreachable(broker, {answer.node_id for answer in brokers}, version)
    topics = []
    left = STEP_PARTITIONS
    for name, topic_id in wanted:
        known = cache.topic_name(topic_id) if topic_id != ZERO_ID else name
        topic = cache.topics.get(known) if known is not None else None
        if topic is None and every:  # deleted since the request began
            continue
        topics.append(
            _unknown(name, topic_id, version, errors)
            if topic is None
            else _describe(topic, unreachable, cache.brokers)
        )
        left -= 1 if topic is None else 1 + len(topic.partitions)
        if left <= 0:
            left = STEP_PARTITIONS
            yield
    if body.include_topic_authorized_operations:
        for answer in topics:
            if not answer.error_code:
                answer.topic_authorized_operations = TOPIC_OPERATIONS
    response = MetadataResponse(
        brokers=brokers,
        cluster_id=broker.cluster_id,
        controller_id=cache.controller_id,
        topics=topics,
    )
    if body.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response


def _identity(wanted: MetadataRequestTopic, version: int) -> tuple[str | None, bytes]:
    """Name and no id, or an id and no name: what a topic is asked for by."""
    if version >= 12 and wanted.topic_id != ZERO_ID:
        return None, wanted.topic_id
    return wanted.name, ZERO_ID


def _unknown(
    name: str | None, topic_id: bytes, version: int, errors: dict[str, ErrorCode]
) -> MetadataResponseTopic:
    if topic_id != ZERO_ID:
        error = ErrorCode.UNKNOWN_TOPIC_ID
    elif topic_names.is_valid(name or ""):
        error = errors.get(name or "", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    else:
        error = ErrorCode.INVALID_TOPIC_EXCEPTION
    return MetadataResponseTopic(
        error_code=error,
        name=name if name is not None or version >= 12 else "",
        topic_id=topic_id,
    )


def _unreachable(broker: Broker, reachable: set[int], version: int) -> dict[int, ErrorCode]:
    """What is told of the partitions of leaders that this client cannot reach."""
    error = (
        ErrorCode.LISTENER_NOT_FOUND
        if version >= LISTENER_NOT_FOUND_SINCE
        else ErrorCode.LEADER_NOT_AVAILABLE
    )
    return dict.fromkeys(broker.metadata.brokers.keys() - reachable, error)


def _describe(
    topic: TopicMetadata, unreachable: dict[int, ErrorCode], live: Container[int]
) -> MetadataResponseTopic:
    """A topic; ``unreachable`` are the leaders that this client has no way to, ``live`` all that are up."""
    answer = MetadataResponseTopic(
        name=topic.name, topic_id=topic.topic_id, is_internal=topic.is_internal
    )
    for index, partition in topic.partitions.items():
        error = unreachable.get(partition.leader, ErrorCode.NONE)
        if partition.leader not in live:
            error = ErrorCode.LEADER_NOT_AVAILABLE
        answer.partitions.append(
            MetadataResponsePartition(
                error_code=error,
                partition_index=index,
                leader_id=NO_LEADER if error else partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=partition.replicas,
                isr_nodes=partition.isr,
                offline_replicas=partition.offline_replicas,
            )
        )
    return answer
