"""DeleteTopics (key 20): topics by name, or by id (version 6), with all that they hold.

Behaviour: each topic stands or falls alone. Files go in the background, names at once. By an id only the
topic that has it is deleted, not one that has been made again under its name by the time it is its turn.
Errors: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUEST (named twice, or by name and id),
TOPIC_DELETION_DISABLED (INVALID_REQUEST below version 3) where ``delete.topic.enable`` is false,
NOT_CONTROLLER, REQUEST_TIMED_OUT (it goes on).
Source: ``KafkaApis.handleDeleteTopicsRequest``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ottla.broker.within import topics_within
from ottla.errors import ErrorCode
from ottla.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> DeleteTopicsResponse:
    """Delete what can be deleted."""
    body: DeleteTopicsRequest = request.body
    by_id = request.api_version >= 6
    states = body.topics if by_id else [DeleteTopicState(name=name) for name in body.topic_names]
    results = [_resolve(broker, state) for state in states]
    if not broker.config.delete_topic_enable:
        disabled = (
            ErrorCode.TOPIC_DELETION_DISABLED
            if request.api_version >= 3
            else ErrorCode.INVALID_REQUEST
        )
        for result in results:
            result.error_code, result.error_message = disabled, "Topic deletion is disabled."
        return DeleteTopicsResponse(responses=results)
    times = Counter(result.name for result in results if result.name is not None)
    for result in results:
        if result.name is not None and times[result.name] > 1:
            result.error_code = ErrorCode.INVALID_REQUEST
            result.error_message = "Duplicate topic name."
    accepted = {
        result.name: result
        for result in results
        if not result.error_code and result.name is not None
    }
    asked_by_id = {state.topic_id for state in states if state.name is None}
    ids = {
        name: result.topic_id for name, result in accepted.items() if result.topic_id in asked_by_id
    }
    change = broker.controller.delete_topics(list(accepted), ids=ids)
    for deleted in await topics_within(body.timeout_ms, change, accepted):
        accepted[deleted.name].error_code = deleted.error
        accepted[deleted.name].error_message = deleted.message
    return DeleteTopicsResponse(responses=results)


def _resolve(broker: Broker, state: DeleteTopicState) -> DeletableTopicResult:
    """The result to be, with name and id as far as they are known."""
    result = DeletableTopicResult(name=state.name, topic_id=state.topic_id)
    if state.name is not None and state.topic_id != ZERO_ID:
        result.error_code = ErrorCode.INVALID_REQUEST
        result.error_message = "Both name and id are given."
    elif state.name is None and state.topic_id == ZERO_ID:
        result.error_code = ErrorCode.INVALID_REQUEST
        result.error_message = "Neither name nor id is given."
    elif state.name is None:
        result.name = broker.metadata.topic_name(state.topic_id)
        if result.name is None:
            result.error_code = ErrorCode.UNKNOWN_TOPIC_ID
    else:
        topic_id = broker.metadata.topic_id(state.name)
        if topic_id is None:
            result.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        else:
            result.topic_id = topic_id
    return result
