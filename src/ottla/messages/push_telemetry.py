"""PushTelemetry, API key 72, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, boolean, bytes_, int8, int16, int32, uuid


class PushTelemetryRequest(Message, key=72, versions=(0, 0), flexible_from=0):
    """Kafka's ``PushTelemetryRequest``."""

    client_instance_id: bytes = uuid(default=bytes(16))
    subscription_id: int = int32(default=0)
    terminating: bool = boolean(default=False)
    compression_type: int = int8(default=0)
    metrics: bytes = bytes_(default=b"")


class PushTelemetryResponse(Message, key=72, versions=(0, 0), flexible_from=0):
    """Kafka's ``PushTelemetryResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
