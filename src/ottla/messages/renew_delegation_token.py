"""RenewDelegationToken, API key 39, versions 1-2."""

from __future__ import annotations

from ottla.wire.schema import Message, bytes_, int16, int32, int64


class RenewDelegationTokenRequest(Message, key=39, versions=(1, 2), flexible_from=2):
    """Kafka's ``RenewDelegationTokenRequest``."""

    hmac: bytes = bytes_(default=b"")
    renew_period_ms: int = int64(default=0)


class RenewDelegationTokenResponse(Message, key=39, versions=(1, 2), flexible_from=2):
    """Kafka's ``RenewDelegationTokenResponse``."""

    error_code: int = int16(default=0)
    expiry_timestamp_ms: int = int64(default=0)
    throttle_time_ms: int = int32(default=0)
