"""PushTelemetry (key 72): a client's metrics, as it was asked for them (KIP-714).

Behaviour: see ``broker.telemetry``: they go to the reporters, and the last of each client are kept.
Errors: INVALID_REQUEST, THROTTLING_QUOTA_EXCEEDED, UNKNOWN_SUBSCRIPTION_ID, UNSUPPORTED_COMPRESSION_TYPE,
TELEMETRY_TOO_LARGE, INVALID_RECORD (a reporter failed).
Source: ``ClientMetricsManager.processPushTelemetryRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.handlers.get_telemetry_subscriptions import facts_of
from ottla.broker.telemetry import Push
from ottla.errors import KafkaError
from ottla.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> PushTelemetryResponse:
    """Take what was pushed."""
    body: PushTelemetryRequest = request.body
    push = Push(
        body.client_instance_id,
        facts_of(request),
        body.compression_type,
        bytes(body.metrics),  # a copy: it outlives the request's memory
        body.terminating,
    )
    try:
        broker.telemetry.push(
            push,
            body.subscription_id,
            request.connection.connection_id,
            int(broker.clock.monotonic() * 1000),
            broker.config.telemetry_max_bytes,
        )
    except KafkaError as error:
        return PushTelemetryResponse(error_code=error.code)
    return PushTelemetryResponse()
