"""CreateDelegationToken, API key 38, versions 1-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, bytes_, int16, int32, int64, since, string


class CreatableRenewers(Message):
    """Creatable renewers."""

    principal_type: str = string(default="")
    principal_name: str = string(default="")


class CreateDelegationTokenRequest(Message, key=38, versions=(1, 3), flexible_from=2):
    """Kafka's ``CreateDelegationTokenRequest``."""

    owner_principal_type: str | None = string(default="", versions=since(3), nullable=since(3))
    owner_principal_name: str | None = string(default="", versions=since(3), nullable=since(3))
    renewers: list[CreatableRenewers] = array(CreatableRenewers, default=list)
    max_lifetime_ms: int = int64(default=0)


class CreateDelegationTokenResponse(Message, key=38, versions=(1, 3), flexible_from=2):
    """Kafka's ``CreateDelegationTokenResponse``."""

    error_code: int = int16(default=0)
    principal_type: str = string(default="")
    principal_name: str = string(default="")
    token_requester_principal_type: str = string(default="", versions=since(3))
    token_requester_principal_name: str = string(default="", versions=since(3))
    issue_timestamp_ms: int = int64(default=0)
    expiry_timestamp_ms: int = int64(default=0)
    max_timestamp_ms: int = int64(default=0)
    token_id: str = string(default="")
    hmac: bytes = bytes_(default=b"")
    throttle_time_ms: int = int32(default=0)
