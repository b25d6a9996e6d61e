"""CreatePartitions (key 37): more partitions for a topic.

Behaviour: keys go to other partitions from then on; what is in the log stays where it is.
Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT, INVALID_TOPIC_EXCEPTION (it
is being deleted), INVALID_REQUEST (named twice), NOT_CONTROLLER, REQUEST_TIMED_OUT (it goes on).
Source: ``KafkaApis.handleCreatePartitionsRequest``, ``ZkAdminManager.createPartitions``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ottla.broker.within import topics_within
from ottla.controller.topics import NewPartitions
from ottla.errors import ErrorCode
from ottla.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> CreatePartitionsResponse:
    """Enlarge what can be enlarged."""
    body: CreatePartitionsRequest = request.body
    times = Counter(topic.name for topic in body.topics)
    wanted = [
        NewPartitions(
            topic.name,
            topic.count,
            None if topic.assignments is None else [a.broker_ids for a in topic.assignments],
        )
        for topic in body.topics
        if times[topic.name] == 1
    ]
    change = broker.controller.create_partitions(wanted, validate_only=body.validate_only)
    found = await topics_within(body.timeout_ms, change, [topic.name for topic in wanted])
    results = {
        name: CreatePartitionsTopicResult(
            name=name,
            error_code=ErrorCode.INVALID_REQUEST,
            error_message="Duplicate topic name.",
        )
        for name in times
    }
    for result in found:
        results[result.name] = CreatePartitionsTopicResult(
            name=result.name, error_code=result.error, error_message=result.message
        )
    return CreatePartitionsResponse(results=list(results.values()))
