"""DescribeAcls (key 29): no access control lists, since there is no authorizer.

Behaviour: as Apache Kafka without ``authorizer.class.name``; user interfaces take it for "no ACLs here".
Errors: SECURITY_DISABLED, always.
Source: ``AclApis.handleDescribeAcls``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.describe_acls import DescribeAclsResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

NO_AUTHORIZER = "No Authorizer is configured on the broker"


def handle(broker: Broker, request: Request) -> DescribeAclsResponse:
    """Refuse."""
    return DescribeAclsResponse(error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
