"""What DescribeConfigs tells of a topic's and of a broker's settings (versions 1 to 4).

Each setting comes with where its value is from and with its synonyms: every place that gives one, the
strongest first. Source: ``ConfigHelper``. One difference: a family's other members (``log.retention.hours``
for ``retention.ms``) are told as synonyms even where its first member is not set, so that the source of the
value is always the first synonym's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ottla.settings.broker_config import BrokerConfig
from ottla.settings.broker_settings import BROKER_SETTINGS, FAMILIES, documentation
from ottla.settings.setting import PASSWORD, READ_ONLY, Setting, to_text
from ottla.settings.topic_config import TopicConfig
from ottla.settings.topic_settings import BROKER_SYNONYMS, TOPIC_SETTINGS

# Where a value is from (Kafka: DescribeConfigsResponse.ConfigSource).
DYNAMIC_TOPIC_CONFIG = 1
DYNAMIC_BROKER_CONFIG = 2
DYNAMIC_DEFAULT_BROKER_CONFIG = 3
STATIC_BROKER_CONFIG = 4
DEFAULT_CONFIG = 5
CLIENT_METRICS_CONFIG = 7

# Values that are derived from a family when they are not set, and told as null then.
_NULL_UNLESS_SET = frozenset(
    {"log.retention.ms", "log.roll.ms", "log.roll.jitter.ms", "log.flush.interval.ms"}
)


class Synonym(NamedTuple):
    """One place that gives a setting's value; ``value`` is None where it must not be shown."""

    name: str
    value: str | None
    source: int


class Described(NamedTuple):
    """One setting as DescribeConfigs tells it; ``value`` is None where there is none or it is a secret."""

    name: str
    value: str | None
    source: int
    read_only: bool
    sensitive: bool
    synonyms: tuple[Synonym, ...]
    type: int
    documentation: str


def describe_topic_config(
    broker: BrokerConfig, overrides: Mapping[str, str], names: Collection[str] | None = None
) -> list[Described]:
    """The settings of a topic with ``overrides``; only those in ``names`` when there are any."""
    config = TopicConfig.from_overrides(broker, overrides, lenient=True)
    result: list[Described] = []
    for name, setting in TOPIC_SETTINGS.items():
        if names and name not in names:
            continue
        synonyms: list[Synonym] = []
        if name in config.overrides:
            text = to_text(config.value(name))
            synonyms.append(_synonym(setting, name, text, DYNAMIC_TOPIC_CONFIG))
        if name in BROKER_SYNONYMS:
            synonyms += _broker_synonyms(broker, tuple(key for key, _ in BROKER_SYNONYMS[name]))
        result.append(
            Described(
                name=name,
                value=_shown(setting, to_text(config.value(name))),
                source=synonyms[0].source if synonyms else DEFAULT_CONFIG,
                read_only=False,
                sensitive=setting.sensitive,
                synonyms=tuple(synonyms),
                type=setting.type,
                documentation=setting.doc,
            )
        )
    return result


def describe_broker_config(
    broker: BrokerConfig, names: Collection[str] | None = None
) -> list[Described]:
    """The settings of this broker; only those in ``names`` when there are any."""
    return [
        _describe_broker_setting(broker, setting)
        for name, setting in BROKER_SETTINGS.items()
        if not names or name in names
    ]


def describe_broker_defaults(
    broker: BrokerConfig, names: Collection[str] | None = None
) -> list[Described]:
    """What was altered for all brokers: the resource without a broker's number."""
    result: list[Described] = []
    for name, text in broker.dynamic_default.items():
        if names and name not in names:
            continue
        setting = BROKER_SETTINGS[name]
        synonym = _synonym(setting, name, text, DYNAMIC_DEFAULT_BROKER_CONFIG)
        described = _describe_broker_setting(broker, setting)
        result.append(
            described._replace(
                value=_shown(setting, text), source=synonym.source, synonyms=(synonym,)
            )
        )
    return result


def describe_client_metrics(
    config: Mapping[str, str], names: Collection[str] | None = None
) -> list[Described]:
    """What is set of a client-metrics subscription; only those in ``names`` when there are any."""
    from ottla.settings.client_metrics import CLIENT_METRICS_SETTINGS

    return [
        Described(
            name=name,
            value=text,
            source=CLIENT_METRICS_CONFIG,
            read_only=False,
            sensitive=False,
            synonyms=(),
            type=CLIENT_METRICS_SETTINGS[name].type,
            documentation=CLIENT_METRICS_SETTINGS[name].doc,
        )
        for name, text in config.items()
        if name in CLIENT_METRICS_SETTINGS and (not names or name in names)
    ]


def _describe_broker_setting(broker: BrokerConfig, setting: Setting) -> Described:
    name = setting.name
    family = next((family for family in FAMILIES if name in family), (name,))
    synonyms = _broker_synonyms(broker, family)
    layers = (broker.dynamic_broker, broker.dynamic_default, broker.static)
    unset = all(name not in layer for layer in layers)
    value = None if unset and name in _NULL_UNLESS_SET else broker.value(name)
    own = [synonym for synonym in synonyms if synonym.name == name]
    return Described(
        name=name,
        value=None if value is None else _shown(setting, to_text(value)),
        source=own[0].source if own else DEFAULT_CONFIG,
        read_only=setting.update == READ_ONLY,
        sensitive=setting.sensitive,
        synonyms=tuple(synonyms),
        type=setting.type,
        documentation=documentation(setting),
    )


def _broker_synonyms(broker: BrokerConfig, names: tuple[str, ...]) -> list[Synonym]:
    """Every place that gives one of ``names`` a value, the strongest first."""
    result: list[Synonym] = []
    for source, layer in (
        (DYNAMIC_BROKER_CONFIG, broker.dynamic_broker),
        (DYNAMIC_DEFAULT_BROKER_CONFIG, broker.dynamic_default),
        (STATIC_BROKER_CONFIG, broker.static),
    ):
        result += [
            _synonym(BROKER_SETTINGS[name], name, layer[name], source)
            for name in names
            if name in layer
        ]
    for name in names:
        setting = BROKER_SETTINGS[name]
        if setting.default is not None:
            result.append(_synonym(setting, name, to_text(setting.default), DEFAULT_CONFIG))
    return result


def _synonym(setting: Setting, name: str, text: str, source: int) -> Synonym:
    return Synonym(name, _shown(setting, text), source)


def _shown(setting: Setting, text: str) -> str | None:
    return None if setting.type == PASSWORD else text
