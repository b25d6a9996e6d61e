"""AlterPartitionReassignments (key 45): move partitions to other brokers, or call that off (KIP-455).

Behaviour: there is one broker, so that a partition is where it can be: to name just that broker is done at
once and changes nothing, anything else is no assignment. Nothing is ever under way that could be called off
(null replicas).
Versions: 1 says whether the replication factor may change; here it never does.
Errors, for each partition: NO_REASSIGNMENT_IN_PROGRESS, INVALID_REPLICA_ASSIGNMENT, UNKNOWN_TOPIC_OR_PARTITION.
Source: ``KafkaController.processApiPartitionReassignment``, ``KafkaController.validateReplicas``.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> AlterPartitionReassignmentsResponse:
    """Answer for each partition."""
    body: AlterPartitionReassignmentsRequest = request.body
    response = AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=body.allow_replication_factor_change, error_message=None
    )
    for topic in body.topics:
        answers = ReassignableTopicResponse(name=topic.name)
        response.responses.append(answers)
        for wanted in topic.partitions:
            answer = ReassignablePartitionResponse(
                partition_index=wanted.partition_index, error_message=None
            )
            answers.partitions.append(answer)
            try:
                _check(broker, topic.name, wanted.partition_index, wanted.replicas)
            except KafkaError as error:
                answer.error_code, answer.error_message = error.code, error.message
    return response


def _check(broker: Broker, name: str, index: int, replicas: list[int] | None) -> None:
    """Raise unless the partition is already where it is wanted."""
    if not broker.metadata.has_partition(name, index):
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if replicas is None:
        raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
    reason = _reason_refused(replicas, broker.metadata.brokers)
    if reason is not None:
        raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, reason)


def _reason_refused(replicas: list[int], alive: Container[int]) -> str | None:
    if not replicas:
        return "Empty replica list specified in partition reassignment."
    if len(set(replicas)) != len(replicas):
        return "Duplicate replica ids in partition reassignment replica list."
    if any(replica not in alive for replica in replicas):
        return "Replica assignment has brokers that are not alive."
    return None
