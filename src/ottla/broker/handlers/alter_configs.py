"""AlterConfigs (key 33): give a resource these settings and no others. Older than IncrementalAlterConfigs.

Behaviour: what a resource had of its own and is not named goes back to its default. Each resource stands or
falls alone; the change is durable when it is answered. ``validate_only`` checks and writes nothing.
Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG (topics, client metrics), INVALID_REQUEST (brokers; another
broker; a null value; a resource or a setting named twice; another kind of resource), NOT_CONTROLLER.
Source: ``ZkAdminManager.alterConfigs``, ``ConfigAdminManager``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.config_alterations import ResourceChange, alter
from ottla.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)
from ottla.settings.alter import SET, Operation

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> AlterConfigsResponse:
    """Replace the settings of each resource."""
    body: AlterConfigsRequest = request.body
    changes = [
        ResourceChange(
            resource.resource_type,
            resource.resource_name,
            [Operation(config.name, SET, config.value) for config in resource.configs],
            replaces=True,
        )
        for resource in body.resources
    ]
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=each.error,
                error_message=each.message,
                resource_type=each.resource_type,
                resource_name=each.name,
            )
            for each in await alter(broker, changes, validate_only=body.validate_only)
        ]
    )
