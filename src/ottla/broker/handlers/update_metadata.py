"""UpdateMetadata (key 6): the controller tells this broker of the cluster: brokers, topics, leaders.

Behaviour: carried out by ``broker.control``, in turn with all other control requests. Who may send it is not asked
yet: see ``leader_and_isr``.

Errors: STALE_CONTROLLER_EPOCH, STALE_BROKER_EPOCH.
Versions: 0 one address a broker; 0-2 tell a listener by its protocol, and PLAINTEXT is where brokers meet; 0-4 name the
topic in each partition; 2 racks; 5 broker epoch; 7 topic ids.
Source: ``KafkaApis.handleUpdateMetadataRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.update_metadata import (
    UpdateMetadataEndpoint,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
    UpdateMetadataTopicState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

BY_TOPIC = 5
NAMED_LISTENERS = 3
RACKS = 2

PLAINTEXT = 0
OTHER_PROTOCOLS = {1: "SSL", 2: "SASL_PLAINTEXT", 3: "SASL_SSL"}
"""The names of the listeners that an older controller tells by their protocols."""


async def handle(broker: Broker, request: Request) -> UpdateMetadataResponse:
    """Answer once this broker goes by it."""
    body: UpdateMetadataRequest = request.body
    if request.api_version < BY_TOPIC:
        topics: dict[str, UpdateMetadataTopicState] = {}
        for state in body.ungrouped_partition_states:
            topic = topics.setdefault(
                state.topic_name, UpdateMetadataTopicState(topic_name=state.topic_name)
            )
            topic.partition_states.append(state)
        body.topic_states = list(topics.values())
    if request.api_version < NAMED_LISTENERS:
        listener = broker.config.inter_broker_listener
        for live in body.live_brokers:
            if request.api_version < RACKS:
                live.rack = None
            if not request.api_version:
                live.endpoints = [
                    UpdateMetadataEndpoint(
                        host=live.v0_host, port=live.v0_port, security_protocol=PLAINTEXT
                    )
                ]
            for endpoint in live.endpoints:
                endpoint.listener = OTHER_PROTOCOLS.get(endpoint.security_protocol, listener)
    return await broker.control.update_metadata(body)
