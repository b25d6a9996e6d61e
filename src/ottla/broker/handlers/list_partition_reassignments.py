"""ListPartitionReassignments (key 46): the partitions that move to other brokers right now (KIP-455).

Behaviour: none, whichever are asked for: there is one broker.
Source: ``KafkaController.processListPartitionReassignments``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.list_partition_reassignments import ListPartitionReassignmentsResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> ListPartitionReassignmentsResponse:
    """An empty list."""
    return ListPartitionReassignmentsResponse(error_message=None)
