"""LeaderAndIsr (key 4): the controller tells this broker what it leads, and what it follows.

Behaviour: carried out by ``broker.control``, in turn with all other control requests. Who may send it is not asked
yet: there is no authorisation, so the listener of the brokers belongs inside a private network.

Errors: STALE_CONTROLLER_EPOCH, STALE_BROKER_EPOCH (whole request); KAFKA_STORAGE_ERROR,
UNKNOWN_TOPIC_OR_PARTITION (this broker is none of the replicas) and those of ``Replicas.lead``.
Versions: 0-1 name the topic in each partition; 2 broker epoch; 5 topic ids; 7 as 6.
Source: ``KafkaApis.handleLeaderAndIsrRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

BY_TOPIC = 2
"""The version from which the request has its partitions by topic."""

BY_TOPIC_ID = 5
"""The version from which the response has its partitions by topic id."""


async def handle(broker: Broker, request: Request) -> LeaderAndIsrResponse:
    """Answer once what it says is so."""
    body: LeaderAndIsrRequest = request.body
    if request.api_version < BY_TOPIC:
        topics: dict[str, LeaderAndIsrTopicState] = {}
        for state in body.ungrouped_partition_states:
            topic = topics.setdefault(
                state.topic_name, LeaderAndIsrTopicState(topic_name=state.topic_name)
            )
            topic.partition_states.append(state)
        body.topic_states = list(topics.values())
    response = await broker.control.leader_and_isr(body)
    if request.api_version < BY_TOPIC_ID:
        response.partition_errors = [
            LeaderAndIsrPartitionError(
                topic_name=topic.topic_name,
                partition_index=answer.partition_index,
                error_code=answer.error_code,
            )
            for topic, answers in zip(body.topic_states, response.topics, strict=True)
            for answer in answers.partition_errors
        ]
    return response
