"""CreateTopics (key 19): topics by numbers or by assignment, with their settings.

Behaviour: each topic stands or falls alone; the answer waits until this broker leads what was created. A name
that stands in the request more than once is refused each time. ``validate_only`` checks everything and writes
nothing.
Versions: 4 -1 for the broker's defaults, 5 the answer tells partitions, replication factor and settings, 7 the
topic's id.
Errors: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR,
INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG, INVALID_REQUEST, NOT_CONTROLLER, REQUEST_TIMED_OUT (it goes on).
Source: ``KafkaApis.handleCreateTopicsRequest``, ``ZkAdminManager.createTopics``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ottla.broker.within import topics_within
from ottla.controller.topics import NewTopic, TopicResult
from ottla.errors import ErrorCode
from ottla.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ottla.settings.describe import describe_topic_config

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> CreateTopicsResponse:
    """Create what can be created."""
    return await create(broker, request.body)


async def create(broker: Broker, body: CreateTopicsRequest) -> CreateTopicsResponse:
    """What ``body`` asks for, by this broker's own controller."""
    times = Counter(topic.name for topic in body.topics)
    results: dict[str, CreatableTopicResult] = {}
    wanted: list[NewTopic] = []
    for topic in body.topics:
        if times[topic.name] > 1:
            results[topic.name] = CreatableTopicResult(
                name=topic.name,
                error_code=ErrorCode.INVALID_REQUEST,
                error_message="Duplicate topic name.",
            )
        else:
            wanted.append(_new_topic(topic))
    change = broker.controller.create_topics(wanted, validate_only=body.validate_only)
    names = [topic.name for topic in wanted]
    for created in await topics_within(body.timeout_ms, change, names):
        results[created.name] = _result(broker, created)
    return CreateTopicsResponse(topics=[results[name] for name in times])


def _new_topic(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        {a.partition_index: a.broker_ids for a in topic.assignments},
        {config.name: config.value for config in topic.configs},
    )


def _result(broker: Broker, created: TopicResult) -> CreatableTopicResult:
    if created.error:
        return CreatableTopicResult(
            name=created.name,
            error_code=created.error,
            error_message=created.message,
            configs=[],
        )
    return CreatableTopicResult(
        name=created.name,
        topic_id=created.topic_id,
        error_message=None,
        num_partitions=created.num_partitions,
        replication_factor=created.replication_factor,
        configs=[
            CreatableTopicConfigs(
                name=described.name,
                value=described.value,
                read_only=described.read_only,
                config_source=described.source,
                is_sensitive=described.sensitive,
            )
            for described in describe_topic_config(broker.config, created.configs)
        ],
    )
