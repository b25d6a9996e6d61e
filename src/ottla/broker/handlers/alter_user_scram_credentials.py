"""AlterUserScramCredentials (key 51): refused, since nobody logs in by SCRAM here.

Errors, for each user: UNSUPPORTED_SASL_MECHANISM to set a credential, RESOURCE_NOT_FOUND to delete one.
Source: ``ZkAdminManager.alterUserScramCredentials``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> AlterUserScramCredentialsResponse:
    """Refuse each."""
    body: AlterUserScramCredentialsRequest = request.body
    refusals = {
        each.name: (
            ErrorCode.RESOURCE_NOT_FOUND,
            "Attempt to delete a user credential that does not exist.",
        )
        for each in body.deletions
    }
    for each in body.upsertions:
        refusals[each.name] = (
            ErrorCode.UNSUPPORTED_SASL_MECHANISM,
            "SCRAM is not supported by this broker.",
        )
    return AlterUserScramCredentialsResponse(
        results=[
            AlterUserScramCredentialsResult(user=name, error_code=code, error_message=message)
            for name, (code, message) in refusals.items()
        ]
    )
