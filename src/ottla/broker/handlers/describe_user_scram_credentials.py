"""DescribeUserScramCredentials (key 50): which users can log in by SCRAM, and how (KIP-554).

Behaviour: nobody can. A null or empty list of users asks for all of them.
Errors, for each user that is named: RESOURCE_NOT_FOUND, DUPLICATE_RESOURCE for one that is named twice.
Source: ``ZkAdminManager.describeUserScramCredentials``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> DescribeUserScramCredentialsResponse:
    """Know nobody."""
    body: DescribeUserScramCredentialsRequest = request.body
    times = Counter(user.name for user in body.users or ())
    return DescribeUserScramCredentialsResponse(
        error_message=None,
        results=[
            DescribeUserScramCredentialsResult(
                user=name, error_code=ErrorCode.RESOURCE_NOT_FOUND, error_message=UNKNOWN_USER
            )
            if count == 1
            else DescribeUserScramCredentialsResult(
                user=name, error_code=ErrorCode.DUPLICATE_RESOURCE, error_message=NAMED_TWICE
            )
            for name, count in times.items()
        ],
    )


UNKNOWN_USER = "Attempt to describe a user credential that does not exist."
NAMED_TWICE = "Cannot describe SCRAM credentials for the same user twice in a single request."
