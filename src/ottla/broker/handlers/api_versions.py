"""ApiVersions (key 18): which APIs and versions this broker speaks; the first request of every client.

Behaviour
- Every API with the whole range of its versions. Produce is advertised from 0, although 0-2 are refused:
  librdkafka up to 2.11.0 otherwise stops compressing (KAFKA-18659).
- The APIs between brokers are named by the brokers of a cluster, on each listener, as in Kafka 3.9.
- Those of client metrics (71, 72) are named while there is a subscription: without one every client would ask
  in vain, and librdkafka's say so in their logs. Who connected before it was made learns of it when it connects
  again. (Apache Kafka names them where a plugin takes what clients push.)
- A version that we do not have is answered by the connection itself: error 35 in a version 0 body.
- Version 5 names the cluster and broker that the client means (KIP-1242): another one is answered with
  REBOOTSTRAP_REQUIRED.

Errors: INVALID_REQUEST for a client software name or version that is not one (from version 3),
REBOOTSTRAP_REQUIRED.
Source: ``KafkaApis.handleApiVersionsRequest``, ``ApiVersionsRequest.isValid``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from ottla.messages.registry import API_VERSIONS_RANGES, BETWEEN_BROKERS

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

PRODUCE = 0
TELEMETRY = frozenset((71, 72))
SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(broker: Broker, request: Request) -> ApiVersionsResponse:
    """Answer with every range."""
    body: ApiVersionsRequest = request.body
    if request.api_version >= 3:
        for software in (body.client_software_name, body.client_software_version):
            if not SOFTWARE.fullmatch(software):
                return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    elsewhere = body.cluster_id not in (None, broker.cluster_id) or body.node_id not in (
        -1,
        broker.node_id,
    )
    if elsewhere:
        return ApiVersionsResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED)
    apis = advertised(in_cluster=broker.in_cluster)
    if not broker.config_listener.client_metrics:
        apis = [each for each in apis if each.api_key not in TELEMETRY]
    return ApiVersionsResponse(api_keys=apis)


def advertised(*, in_cluster: bool = False) -> list[ApiVersion]:
    """The ranges that clients may be told."""
    return [
        ApiVersion(api_key=key, min_version=0 if key == PRODUCE else lo, max_version=hi)
        for key, (lo, hi) in API_VERSIONS_RANGES.items()
        if in_cluster or key not in BETWEEN_BROKERS
    ]
