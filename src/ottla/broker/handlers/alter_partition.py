"""AlterPartition (key 56): a leader asks the controller to alter ISRs (KIP-497).

Versions: 1 has the leader's recovery state (KIP-704), 2 names topics by id (KIP-841), 3 has the broker epochs of the
ISR's members (KIP-903).
Errors: NOT_CONTROLLER, STALE_BROKER_EPOCH; for each partition FENCED_LEADER_EPOCH, INVALID_UPDATE_VERSION,
INELIGIBLE_REPLICA (OPERATION_NOT_ATTEMPTED below version 2), NOT_CONTROLLER (the leader knows of a later one),
INVALID_REQUEST, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION.
Source: ``KafkaController.processAlterPartition``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.alter_partition import AlterPartitionResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> AlterPartitionResponse:
    """Have the controller do it."""
    return await broker.controller.alter_partition(request.body)
