"""CreateDelegationToken (key 38): refused, since there are no delegation tokens.

Behaviour: as where Apache Kafka has no ``delegation.token.secret.key``. (On a plaintext connection Kafka says
DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, which would send the client to another listener: none would do.)
Errors: DELEGATION_TOKEN_AUTH_DISABLED, always.
Source: ``KafkaApis.handleCreateTokenRequest``, ``DelegationTokenManager``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.create_delegation_token import CreateDelegationTokenResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> CreateDelegationTokenResponse:
    """Refuse."""
    return CreateDelegationTokenResponse(error_code=ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED)
