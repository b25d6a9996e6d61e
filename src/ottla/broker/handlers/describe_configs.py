"""DescribeConfigs (key 32): the settings of topics and of this broker, and where their values come from.

Behaviour: a topic by its name; this broker by its id; the settings for all brokers by the empty name; a
client-metrics subscription by its name, with what is set (nothing for one that is not there). A null
or empty list of keys asks for everything. Secrets are told without their value. What is asked for several
times is told once: the response is bounded by what there is. In a cluster any broker is asked of any topic.
Versions: 1 sources and synonyms, 3 types and documentation.
Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION, INVALID_REQUEST (another broker, another kind of
resource), REQUEST_TIMED_OUT (the store does not answer).
Source: ``ConfigHelper.describeConfigs``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ottla.broker.config_resources import (
    BROKER,
    CLIENT_METRICS,
    TOPIC,
    require_this_broker,
    unsupported,
)
from ottla.controller import topic_names
from ottla.coordination.store import StoreError
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from ottla.settings.describe import (
    Described,
    describe_broker_config,
    describe_broker_defaults,
    describe_client_metrics,
    describe_topic_config,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


def handle(
    broker: Broker, request: Request
) -> DescribeConfigsResponse | Awaitable[DescribeConfigsResponse]:
    """Describe each resource."""
    body: DescribeConfigsRequest = request.body
    topics = {each.resource_name for each in body.resources if each.resource_type == TOPIC}
    if broker.in_cluster and topics:
        return _read_first(broker, body, topics & broker.metadata.topics.keys())
    return _answer(broker, body)


async def _read_first(
    broker: Broker, body: DescribeConfigsRequest, topics: set[str]
) -> DescribeConfigsResponse:
    """A broker that has no replica of a topic has not heard of its settings."""
    unread: KafkaError | None = None
    try:
        await broker.config_listener.load_topics(topics)
    except StoreError as error:
        unread = KafkaError(ErrorCode.REQUEST_TIMED_OUT, f"The settings can't be read now: {error}")
    return _answer(broker, body, unread)


def _answer(
    broker: Broker, body: DescribeConfigsRequest, unread: KafkaError | None = None
) -> DescribeConfigsResponse:
    response = DescribeConfigsResponse()
    distinct = {
        (each.resource_type, each.resource_name, frozenset(each.configuration_keys or ())): each
        for each in body.resources
    }
    for resource in distinct.values():
        result = DescribeConfigsResult(
            resource_type=resource.resource_type, resource_name=resource.resource_name
        )
        response.results.append(result)
        try:
            if unread is not None and resource.resource_type == TOPIC:
                raise unread
            described = _describe(broker, resource)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        else:
            result.configs = [_config(each, body) for each in described]
    return response


def _describe(broker: Broker, resource: DescribeConfigsResource) -> list[Described]:
    names = frozenset(resource.configuration_keys or ())
    name = resource.resource_name
    if resource.resource_type == TOPIC:
        topic_names.validate(name)
        if name not in broker.metadata.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return describe_topic_config(broker.config, broker.topic_overrides(name), names)
    if resource.resource_type == BROKER:
        if not name:
            return describe_broker_defaults(broker.config, names)
        require_this_broker(broker, name)
        return describe_broker_config(broker.config, names)
    if resource.resource_type == CLIENT_METRICS:
        from ottla.settings.client_metrics import check_name

        check_name(name)
        return describe_client_metrics(broker.config_listener.client_metrics.get(name, {}), names)
    raise unsupported(resource.resource_type)


def _config(described: Described, body: DescribeConfigsRequest) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=described.name,
        value=described.value,
        read_only=described.read_only,
        config_source=described.source,
        is_sensitive=described.sensitive,
        config_type=described.type,
        documentation=described.documentation if body.include_documentation else None,
        synonyms=[
            DescribeConfigsSynonym(name=synonym.name, value=synonym.value, source=synonym.source)
            for synonym in described.synonyms
        ]
        if body.include_synonyms
        else [],
    )
