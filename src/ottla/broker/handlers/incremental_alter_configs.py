"""IncrementalAlterConfigs (key 44): set, delete, append to or take from settings, without the others (KIP-339).

Behaviour: each resource stands or falls alone, with all its operations. The change is durable when it is
answered, and this broker goes by it. ``validate_only`` checks and writes nothing.
Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG (topics), INVALID_REQUEST (brokers; another broker; a
resource named twice; another kind of resource), NOT_CONTROLLER.
Source: ``ZkAdminManager.incrementalAlterConfigs``, ``ConfigAdminManager``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.broker.config_resources import BROKER, TOPIC, require_this_broker, unsupported
from ottla.controller.configs import BROKERS, TOPICS, ConfigAlteration, ConfigResult
from ottla.coordination.store import StoreError
from ottla.coordination.znodes import DEFAULT_ENTITY
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.settings.alter import Operation, alter_broker_overrides, alter_topic_overrides

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

log = logger(__name__)


async def handle(broker: Broker, request: Request) -> IncrementalAlterConfigsResponse:
    """Alter each resource."""
    body: IncrementalAlterConfigsRequest = request.body
    times = Counter((r.resource_type, r.resource_name) for r in body.resources)
    answers: dict[tuple[int, str], AlterConfigsResourceResponse] = {}
    alterations: dict[tuple[str, str], tuple[int, str]] = {}
    wanted: list[ConfigAlteration] = []
    for resource in body.resources:
        key = (resource.resource_type, resource.resource_name)
        answers[key] = AlterConfigsResourceResponse(resource_type=key[0], resource_name=key[1])
        try:
            if times[key] > 1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, "Each resource must appear at most once."
                )
            alteration = _alteration(broker, resource)
        except KafkaError as error:
            answers[key].error_code, answers[key].error_message = error.code, error.message
            continue
        wanted.append(alteration)
        alterations[alteration.entity_type, alteration.entity] = key
    try:
        outcome = await broker.controller.alter_configs(wanted, validate_only=body.validate_only)
    except KafkaError as error:
        outcome = [ConfigResult(a.entity_type, a.entity, error.code, error.message) for a in wanted]
    for result in outcome:
        answer = answers[alterations[result.entity_type, result.entity]]
        answer.error_code, answer.error_message = result.error, result.message
    if not body.validate_only:
        try:
            await broker.config_listener.settle()
        except StoreError as error:  # it is stored; the listener reads it again by itself
            log.warning("altered settings are not in use yet", reason=str(error))
    return IncrementalAlterConfigsResponse(responses=list(answers.values()))


def _alteration(broker: Broker, resource: AlterConfigsResource) -> ConfigAlteration:
    operations = [Operation(c.name, c.config_operation, c.value) for c in resource.configs]
    name = resource.resource_name

    def alter_topic(current: dict[str, str]) -> Mapping[str, str]:
        return alter_topic_overrides(broker.config, current, operations)

    def alter_broker(current: dict[str, str]) -> Mapping[str, str]:
        # What is stored counts, not what this broker has heard of so far.
        config = broker.config
        layers = (config.dynamic_default, current) if name else (current, config.dynamic_broker)
        stored = config.with_dynamic(*layers, lenient=True)
        return alter_broker_overrides(stored, operations, this_broker=bool(name))

    if resource.resource_type == TOPIC:
        if name not in broker.metadata.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return ConfigAlteration(TOPICS, name, alter_topic)
    if resource.resource_type == BROKER:
        if name:
            require_this_broker(broker, name)
        return ConfigAlteration(BROKERS, name or DEFAULT_ENTITY, alter_broker)
    raise unsupported(resource.resource_type)
