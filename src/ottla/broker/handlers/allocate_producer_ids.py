"""AllocateProducerIds (key 67): a broker asks the controller for producer ids that are its alone (KIP-730).

Errors: NOT_CONTROLLER, BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH, REQUEST_TIMED_OUT (the ids may be lost).
Source: ``KafkaController.processAllocateProducerIds``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.allocate_producer_ids import AllocateProducerIdsResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> AllocateProducerIdsResponse:
    """Have the controller do it."""
    return await broker.controller.allocate_producer_ids(request.body)
