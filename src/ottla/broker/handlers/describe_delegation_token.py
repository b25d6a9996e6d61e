"""DescribeDelegationToken (key 41): refused, since there are no delegation tokens.

Behaviour: as where Apache Kafka has no ``delegation.token.secret.key``. (On a plaintext connection Kafka says
DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, which would send the client to another listener: none would do.)
Errors: DELEGATION_TOKEN_AUTH_DISABLED, always.
Source: ``KafkaApis.handleDescribeTokensRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.describe_delegation_token import DescribeDelegationTokenResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> DescribeDelegationTokenResponse:
    """Refuse."""
    return DescribeDelegationTokenResponse(error_code=ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED)
