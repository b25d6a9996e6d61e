"""DeleteAcls (key 31): refused, since there are no lists.

Behaviour: as Apache Kafka without ``authorizer.class.name``.
Errors, for each filter: SECURITY_DISABLED, always.
Source: ``AclApis.handleDeleteAcls``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.handlers.describe_acls import NO_AUTHORIZER
from ottla.errors import ErrorCode
from ottla.messages.delete_acls import (
    DeleteAclsFilterResult,
    DeleteAclsRequest,
    DeleteAclsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> DeleteAclsResponse:
    """Refuse each."""
    body: DeleteAclsRequest = request.body
    refused = DeleteAclsFilterResult(
        error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER
    )
    return DeleteAclsResponse(filter_results=[refused] * len(body.filters))
