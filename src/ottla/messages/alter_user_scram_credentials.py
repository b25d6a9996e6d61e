"""AlterUserScramCredentials, API key 51, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, bytes_, int8, int16, int32, since, string


class ScramCredentialDeletion(Message):
    """Scram credential deletion."""

    name: str = string(default="")
    mechanism: int = int8(default=0)


class ScramCredentialUpsertion(Message):
    """Scram credential upsertion."""

    name: str = string(default="")
    mechanism: int = int8(default=0)
    iterations: int = int32(default=0)
    salt: bytes = bytes_(default=b"")
    salted_password: bytes = bytes_(default=b"")


class AlterUserScramCredentialsRequest(Message, key=51, versions=(0, 0), flexible_from=0):
    """Kafka's ``AlterUserScramCredentialsRequest``."""

    deletions: list[ScramCredentialDeletion] = array(ScramCredentialDeletion, default=list)
    upsertions: list[ScramCredentialUpsertion] = array(ScramCredentialUpsertion, default=list)


class AlterUserScramCredentialsResult(Message):
    """Alter user scram credentials result."""

    user: str = string(default="")
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))


class AlterUserScramCredentialsResponse(Message, key=51, versions=(0, 0), flexible_from=0):
    """Kafka's ``AlterUserScramCredentialsResponse``."""

    throttle_time_ms: int = int32(default=0)
    results: list[AlterUserScramCredentialsResult] = array(
        AlterUserScramCredentialsResult, default=list
    )
