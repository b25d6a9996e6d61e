"""IncrementalAlterConfigs (key 44): set, delete, append to or take from settings, without the others (KIP-339).

Behaviour: each resource stands or falls alone, with all its operations. The change is durable when it is
answered, and this broker goes by it. ``validate_only`` checks and writes nothing.
Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG (topics, client metrics), INVALID_REQUEST (brokers; another
broker; a resource named twice; another kind of resource), NOT_CONTROLLER.
Source: ``ZkAdminManager.incrementalAlterConfigs``, ``ConfigAdminManager``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.config_alterations import ResourceChange, alter
from ottla.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.settings.alter import Operation

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> IncrementalAlterConfigsResponse:
    """Alter each resource."""
    body: IncrementalAlterConfigsRequest = request.body
    changes = [
        ResourceChange(
            resource.resource_type,
            resource.resource_name,
            [Operation(c.name, c.config_operation, c.value) for c in resource.configs],
            replaces=False,
        )
        for resource in body.resources
    ]
    return IncrementalAlterConfigsResponse(
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
