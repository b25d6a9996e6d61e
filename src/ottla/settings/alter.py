"""Altering settings while the broker runs: the operations of IncrementalAlterConfigs as pure functions.

Each takes what is stored and gives what to store, or raises; nothing is half done. Sources:
``ConfigAdminManager``, ``ConfigurationControlManager``, ``DynamicBrokerConfig.validateConfigs``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.settings.broker_config import BrokerConfig
from ottla.settings.broker_settings import BROKER_SETTINGS
from ottla.settings.setting import (
    LIST,
    PER_BROKER,
    READ_ONLY,
    Setting,
    SettingError,
    Value,
    to_text,
)
from ottla.settings.sources import unknown_setting
from ottla.settings.topic_config import TopicConfig, default_value, unknown_topic_setting
from ottla.settings.topic_settings import TOPIC_SETTINGS

SET = 0
DELETE = 1
APPEND = 2
SUBTRACT = 3

_VERBS = {APPEND: "append", SUBTRACT: "subtract"}


class Operation(NamedTuple):
    """One change: ``kind`` is SET, DELETE, APPEND or SUBTRACT; DELETE needs no value."""

    name: str
    kind: int
    value: str | None = None


def alter_topic_overrides(
    broker: BrokerConfig, current: Mapping[str, str], operations: Iterable[Operation]
) -> dict[str, str]:
    """The overrides of a topic after ``operations``.

    Raises KafkaError: INVALID_CONFIG for a name or value that can't be, INVALID_REQUEST for operations
    that make no sense.
    """

    def definition(name: str) -> tuple[Setting, Value]:
        if name not in TOPIC_SETTINGS:
            raise unknown_topic_setting(name)
        return TOPIC_SETTINGS[name], default_value(name, broker)

    result = apply_operations(current, operations, definition)
    # What is stored already and was not touched may be of another version: it must not stand in the way.
    untouched = [
        name for name in result if name not in TOPIC_SETTINGS and result[name] == current.get(name)
    ]
    checked = {name: text for name, text in result.items() if name not in untouched}
    TopicConfig.from_overrides(broker, checked)
    return result


def alter_broker_overrides(
    broker: BrokerConfig, operations: Iterable[Operation], *, this_broker: bool
) -> dict[str, str]:
    """What is altered for ``broker`` alone (or for all brokers) after ``operations``.

    Raises KafkaError INVALID_REQUEST, as Kafka does for brokers: a setting that can't change while the
    broker runs, one that belongs to one broker altered for all, an unknown name, a bad value.
    """

    def definition(name: str) -> tuple[Setting, Value]:
        if name not in BROKER_SETTINGS:
            raise unknown_setting(name)
        return BROKER_SETTINGS[name], broker.value(name)

    current = broker.dynamic_broker if this_broker else broker.dynamic_default
    try:
        result = apply_operations(current, operations, definition)
        _check_dynamic(result, this_broker)
        if this_broker:
            broker.with_dynamic(broker.dynamic_default, result)
        else:
            broker.with_dynamic(result, broker.dynamic_broker)
    except SettingError as error:
        raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from None
    return result


def _check_dynamic(names: Iterable[str], this_broker: bool) -> None:
    fixed = [name for name in names if BROKER_SETTINGS[name].update == READ_ONLY]
    if fixed:
        raise SettingError(f"Cannot update these configs dynamically: {', '.join(fixed)}")
    single = [name for name in names if BROKER_SETTINGS[name].update == PER_BROKER]
    if single and not this_broker:
        raise SettingError(
            "Cannot update these configs at default cluster level, broker id must be specified: "
            + ", ".join(single)
        )


def _checked(operations: Iterable[Operation]) -> list[Operation]:
    """The operations, after the checks that need no definition."""
    result = list(operations)
    if len({operation.name for operation in result}) != len(result):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    for operation in result:
        if operation.kind not in (SET, DELETE, APPEND, SUBTRACT):
            reason = f"Unknown operation type {operation.kind} for {operation.name}"
            raise KafkaError(ErrorCode.INVALID_REQUEST, reason)
    nulls = [item.name for item in result if item.value is None and item.kind != DELETE]
    if nulls:
        reason = f"Null value not supported for : {', '.join(nulls)}"
        raise KafkaError(ErrorCode.INVALID_REQUEST, reason)
    return result


def apply_operations(
    current: Mapping[str, str],
    operations: Iterable[Operation],
    definition: Callable[[str], tuple[Setting, Value]],
) -> dict[str, str]:
    """What is stored after ``operations``; values are not checked.

    ``definition`` gives a setting and its default by name, or raises. Raises KafkaError (INVALID_REQUEST)
    for operations that make no sense.
    """
    result = dict(current)
    for name, kind, value in _checked(operations):
        if kind == DELETE:
            result.pop(name, None)
            continue
        assert value is not None
        setting, default = definition(name)
        if kind == SET:
            result[name] = value
            continue
        if setting.type != LIST:
            verb = _VERBS[kind]
            raise SettingError(f"Config value {verb} is not allowed for config key: {name}")
        items = _items(result[name] if name in result else to_text(default))
        given = _items(value)
        if kind == APPEND:
            items += [item for item in given if item not in items]
        else:
            items = [item for item in items if item not in given]
        result[name] = ",".join(items)
    return result


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
