"""ListPartitionReassignments (key 46): the partitions that move to other brokers right now (KIP-455).

Behaviour: all that the controller knows to be under way, or those of the partitions that are asked for.
Errors: NOT_CONTROLLER.
Source: ``KafkaController.processListPartitionReassignments``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.list_partition_reassignments import ListPartitionReassignmentsResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> ListPartitionReassignmentsResponse:
    """Ask the controller."""
    return await broker.controller.list_partition_reassignments(request.body)
