"""ControlledShutdown (key 7): a broker that is about to stop asks the controller to move its leaderships.

Errors: NOT_CONTROLLER, STALE_BROKER_EPOCH, BROKER_NOT_AVAILABLE (no such broker is registered).
Source: ``KafkaController.doControlledShutdown``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.controlled_shutdown import ControlledShutdownResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> ControlledShutdownResponse:
    """Have the controller do it."""
    return await broker.controller.controlled_shutdown(request.body)
