"""DescribeCluster (key 60): the brokers, the controller and the cluster's id.

Versions: 1 the kind of endpoints (only brokers: there are no KRaft controllers), 2 fenced brokers (none).
Errors: MISMATCHED_ENDPOINT_TYPE for controllers, UNSUPPORTED_ENDPOINT_TYPE for anything else.
Source: ``KafkaApis.handleDescribeCluster``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.authorized_operations import CLUSTER_OPERATIONS
from ottla.errors import ErrorCode
from ottla.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

BROKERS = 1
CONTROLLERS = 2


def handle(broker: Broker, request: Request) -> DescribeClusterResponse:
    """Answer from the metadata cache, with the endpoints of the client's own listener."""
    body: DescribeClusterRequest = request.body
    if body.endpoint_type != BROKERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE
            if body.endpoint_type == CONTROLLERS
            else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message="this broker answers for brokers only",
        )
    response = DescribeClusterResponse(
        endpoint_type=BROKERS,
        cluster_id=broker.cluster_id,
        controller_id=broker.metadata.controller_id,
        brokers=[
            DescribeClusterBroker(broker_id=node_id, host=host, port=port, rack=rack)
            for node_id, host, port, rack in broker.endpoints(request.connection.listener_name)
        ],
    )
    if body.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response
