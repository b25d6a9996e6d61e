"""DescribeUserScramCredentials, API key 50, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int8, int16, int32, since, string


class UserName(Message):
    """User name."""

    name: str = string(default="")


class DescribeUserScramCredentialsRequest(Message, key=50, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeUserScramCredentialsRequest``."""

    users: list[UserName] | None = array(UserName, default=list, nullable=since(0))


class CredentialInfo(Message):
    """Credential info."""

    mechanism: int = int8(default=0)
    iterations: int = int32(default=0)


class DescribeUserScramCredentialsResult(Message):
    """Describe user scram credentials result."""

    user: str = string(default="")
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    credential_infos: list[CredentialInfo] = array(CredentialInfo, default=list)


class DescribeUserScramCredentialsResponse(Message, key=50, versions=(0, 0), flexible_from=0):
    """Kafka's ``DescribeUserScramCredentialsResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    results: list[DescribeUserScramCredentialsResult] = array(
        DescribeUserScramCredentialsResult, default=list
    )
