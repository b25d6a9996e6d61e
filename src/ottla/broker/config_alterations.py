"""Altering the settings of topics, brokers and client-metrics subscriptions: what both alter APIs share.

Rules: each resource stands or falls alone, with all its operations. A resource that is named twice is refused.
The change is durable when it is answered, and this broker goes by it. Source: ``ConfigAdminManager``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.broker.config_resources import (
    BROKER,
    CLIENT_METRICS,
    TOPIC,
    require_this_broker,
    unsupported,
)
from ottla.controller import configs, topic_names
from ottla.controller.configs import ConfigAlteration, ConfigResult
from ottla.coordination.store import StoreError
from ottla.coordination.znodes import DEFAULT_ENTITY
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.settings.alter import Operation, alter_broker_overrides, alter_topic_overrides

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

log = logger(__name__)


class ResourceChange(NamedTuple):
    """What a client wants of a resource; with ``replaces`` all that it had goes first."""

    resource_type: int
    name: str
    operations: list[Operation]
    replaces: bool


class Altered(NamedTuple):
    """What became of a resource."""

    resource_type: int
    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


async def alter(
    broker: Broker, changes: Sequence[ResourceChange], *, validate_only: bool
) -> list[Altered]:
    """Alter each resource, or only say whether it could be. Never raises ``KafkaError``."""
    times = Counter((change.resource_type, change.name) for change in changes)
    answers: dict[tuple[int, str], Altered] = {}
    alterations: dict[tuple[str, str], tuple[int, str]] = {}
    wanted: list[ConfigAlteration] = []
    for change in changes:
        key = (change.resource_type, change.name)
        answers[key] = Altered(*key)
        try:
            if times[key] > 1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, "Each resource must appear at most once."
                )
            alteration = _alteration(broker, change)
        except KafkaError as error:
            answers[key] = Altered(*key, error.code, error.message)
            continue
        wanted.append(alteration)
        alterations[alteration.entity_type, alteration.entity] = key
    try:
        outcome = await _carry_out(broker, wanted, validate_only)
    except KafkaError as error:
        outcome = [ConfigResult(a.entity_type, a.entity, error.code, error.message) for a in wanted]
    for result in outcome:
        key = alterations[result.entity_type, result.entity]
        answers[key] = Altered(*key, result.error, result.message)
    if not validate_only:
        try:
            await broker.config_listener.settle()
        except StoreError as error:  # it is stored; the listener reads it again by itself
            log.warning("altered settings are not in use yet", reason=str(error))
    return list(answers.values())


async def _carry_out(
    broker: Broker, wanted: list[ConfigAlteration], validate_only: bool
) -> list[ConfigResult]:
    if broker.controller.is_active or not broker.in_cluster:
        return await broker.controller.alter_configs(wanted, validate_only=validate_only)
    from ottla.controller.config_changes import ConfigChanges

    return await ConfigChanges(broker.session.store).alter(None, wanted, validate_only)


def _alteration(broker: Broker, change: ResourceChange) -> ConfigAlteration:
    name, operations = change.name, change.operations

    def base(current: dict[str, str]) -> dict[str, str]:
        return {} if change.replaces else current

    def alter_topic(current: dict[str, str]) -> Mapping[str, str]:
        return alter_topic_overrides(broker.config, base(current), operations)

    def alter_broker(current: dict[str, str]) -> Mapping[str, str]:
        # What is stored counts, not what this broker has heard of so far.
        config, own = broker.config, base(current)
        layers = (config.dynamic_default, own) if name else (own, config.dynamic_broker)
        stored = config.with_dynamic(*layers, lenient=True)
        return alter_broker_overrides(stored, operations, this_broker=bool(name))

    def alter_subscription(current: dict[str, str]) -> Mapping[str, str]:
        from ottla.settings.client_metrics import alter_client_metrics

        return alter_client_metrics(base(current), operations)

    if change.resource_type == TOPIC:
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "The topic has no name.")
        if not topic_names.is_valid(name):
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
        if name not in broker.metadata.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return ConfigAlteration(configs.TOPICS, name, alter_topic)
    if change.resource_type == BROKER:
        if name:
            require_this_broker(broker, name)
        return ConfigAlteration(configs.BROKERS, name or DEFAULT_ENTITY, alter_broker)
    if change.resource_type == CLIENT_METRICS:
        from ottla.settings.client_metrics import check_name

        check_name(name)
        return ConfigAlteration(configs.CLIENT_METRICS, name, alter_subscription)
    raise unsupported(change.resource_type)
