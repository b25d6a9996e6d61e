"""AlterPartitionReassignments (key 45): move partitions to other brokers, or call that off (KIP-455).

Behaviour: the controller writes down what is to be, and answers; the moving itself goes on for as long as the
new replicas need to catch up. Null replicas call off what is under way.
Versions: 1 says whether the replication factor may change.
Errors: NOT_CONTROLLER; for each partition NO_REASSIGNMENT_IN_PROGRESS, INVALID_REPLICA_ASSIGNMENT,
INVALID_REPLICATION_FACTOR, UNKNOWN_TOPIC_OR_PARTITION, REQUEST_TIMED_OUT (it may have been written down or not).
Source: ``KafkaController.processApiPartitionReassignment``, ``KafkaController.validateReplicas``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.alter_partition_reassignments import AlterPartitionReassignmentsResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> AlterPartitionReassignmentsResponse:
    """Have the controller do it."""
    return await broker.controller.alter_partition_reassignments(request.body)
