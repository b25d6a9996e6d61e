"""DescribeDelegationToken, API key 41, versions 1-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, bytes_, int16, int32, int64, since, string


class DescribeDelegationTokenOwner(Message):
    """Describe delegation token owner."""

    principal_type: str = string(default="")
    principal_name: str = string(default="")


class DescribeDelegationTokenRequest(Message, key=41, versions=(1, 3), flexible_from=2):
    """Kafka's ``DescribeDelegationTokenRequest``."""

    owners: list[DescribeDelegationTokenOwner] | None = array(
        DescribeDelegationTokenOwner, default=list, nullable=since(0)
    )


class DescribedDelegationTokenRenewer(Message):
    """Described delegation token renewer."""

    principal_type: str = string(default="")
    principal_name: str = string(default="")


class DescribedDelegationToken(Message):
    """Described delegation token."""

    principal_type: str = string(default="")
    principal_name: str = string(default="")
    token_requester_principal_type: str = string(default="", versions=since(3))
    token_requester_principal_name: str = string(default="", versions=since(3))
    issue_timestamp: int = int64(default=0)
    expiry_timestamp: int = int64(default=0)
    max_timestamp: int = int64(default=0)
    token_id: str = string(default="")
    hmac: bytes = bytes_(default=b"")
    renewers: list[DescribedDelegationTokenRenewer] = array(
        DescribedDelegationTokenRenewer, default=list
    )


class DescribeDelegationTokenResponse(Message, key=41, versions=(1, 3), flexible_from=2):
    """Kafka's ``DescribeDelegationTokenResponse``."""

    error_code: int = int16(default=0)
    tokens: list[DescribedDelegationToken] = array(DescribedDelegationToken, default=list)
    throttle_time_ms: int = int32(default=0)
