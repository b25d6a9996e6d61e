"""GetTelemetrySubscriptions (key 71): which of its metrics a client should push, and how often (KIP-714).

Behaviour: see ``broker.telemetry``. A client without an id gets one. Subscriptions are resources of type 16,
altered like other settings; without any a client is asked for nothing.
Errors: THROTTLING_QUOTA_EXCEEDED.
Source: ``ClientMetricsManager.processGetTelemetrySubscriptionRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.telemetry import ACCEPTED_COMPRESSION_TYPES
from ottla.errors import KafkaError
from ottla.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> GetTelemetrySubscriptionsResponse:
    """Tell the client what is wanted of it."""
    body: GetTelemetrySubscriptionsRequest = request.body
    try:
        wanted = broker.telemetry.subscribe(
            body.client_instance_id,
            facts_of(request),
            request.connection.connection_id,
            int(broker.clock.monotonic() * 1000),
        )
    except KafkaError as error:
        return GetTelemetrySubscriptionsResponse(error_code=error.code)
    return GetTelemetrySubscriptionsResponse(
        client_instance_id=wanted.client_instance_id,
        subscription_id=wanted.subscription_id,
        accepted_compression_types=list(ACCEPTED_COMPRESSION_TYPES),
        push_interval_ms=wanted.interval_ms,
        telemetry_max_bytes=broker.config.telemetry_max_bytes,
        delta_temporality=True,
        requested_metrics=list(wanted.metrics),
    )


def facts_of(request: Request) -> dict[str, str]:
    """What a subscription's ``match`` can ask about the sender, but its instance id."""
    connection = request.connection
    return {
        "client_id": request.client_id or "",
        "client_software_name": connection.client_software_name,
        "client_software_version": connection.client_software_version,
        "client_source_address": connection.peer_host,
        "client_source_port": str(connection.peer_port),
    }
