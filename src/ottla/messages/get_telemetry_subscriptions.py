"""GetTelemetrySubscriptions, API key 71, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int8, int16, int32, string, uuid


class GetTelemetrySubscriptionsRequest(Message, key=71, versions=(0, 0), flexible_from=0):
    """Kafka's ``GetTelemetrySubscriptionsRequest``."""

    client_instance_id: bytes = uuid(default=bytes(16))


class GetTelemetrySubscriptionsResponse(Message, key=71, versions=(0, 0), flexible_from=0):
    """Kafka's ``GetTelemetrySubscriptionsResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    client_instance_id: bytes = uuid(default=bytes(16))
    subscription_id: int = int32(default=0)
    accepted_compression_types: list[int] = array(int8, default=list)
    push_interval_ms: int = int32(default=0)
    telemetry_max_bytes: int = int32(default=0)
    delta_temporality: bool = boolean(default=False)
    requested_metrics: list[str] = array(string, default=list)
