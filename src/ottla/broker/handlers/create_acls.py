"""CreateAcls (key 30): refused, since nobody would keep to the lists.

Behaviour: as Apache Kafka without ``authorizer.class.name``.
Errors, for each list: SECURITY_DISABLED, always.
Source: ``AclApis.handleCreateAcls``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.handlers.describe_acls import NO_AUTHORIZER
from ottla.errors import ErrorCode
from ottla.messages.create_acls import (
    AclCreationResult,
    CreateAclsRequest,
    CreateAclsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> CreateAclsResponse:
    """Refuse each."""
    body: CreateAclsRequest = request.body
    refused = AclCreationResult(error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
    return CreateAclsResponse(results=[refused] * len(body.creations))
