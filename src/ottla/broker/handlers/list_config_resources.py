"""ListConfigResources (key 74): what settings can belong to, by name (KIP-1142).

Behaviour: no types ask for all of them: topics, brokers, client-metrics subscriptions, and groups and loggers,
which have no settings here and so are none.
Versions: 0 is ListClientMetricsResources (KIP-1000): the subscriptions, without a type.
Errors: UNSUPPORTED_VERSION for a type that is none.
Source: ``KafkaApis.handleListConfigResources``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ottla.broker.config_resources import BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC
from ottla.errors import ErrorCode
from ottla.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

NAMES: dict[int, Callable[[Broker], Iterable[str]]] = {
    TOPIC: lambda broker: broker.metadata.topics,
    BROKER: lambda broker: map(str, broker.metadata.brokers),
    BROKER_LOGGER: lambda broker: (),
    CLIENT_METRICS: lambda broker: broker.config_listener.client_metrics,
    GROUP: lambda broker: (),
}


def handle(broker: Broker, request: Request) -> ListConfigResourcesResponse:
    """List the names of each type."""
    body: ListConfigResourcesRequest = request.body
    types = dict.fromkeys(body.resource_types or NAMES)
    if request.api_version == 0:
        types = {CLIENT_METRICS: None}
    if not types.keys() <= NAMES.keys():
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=each)
            for each in types
            for name in NAMES[each](broker)
        ]
    )
