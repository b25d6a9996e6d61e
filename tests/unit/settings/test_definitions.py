"""The tables: every definition is whole, and says what Kafka says."""

from __future__ import annotations

import typing

import pytest

from ottla.network.limits import NetworkLimits
from ottla.settings.broker_settings import (
    BROKER_SETTINGS,
    FAMILIES,
    OUR_DEFAULTS,
    TOPIC_SYNONYMS,
    documentation,
)
from ottla.settings.definitions import BrokerConfig, Setting, TopicConfig, to_text
from ottla.settings.known import KNOWN_TO_KAFKA, is_known_to_kafka
from ottla.settings.setting import (
    BOOLEAN,
    CLUSTER_WIDE,
    DOUBLE,
    INT,
    LIST,
    LONG,
    PASSWORD,
    READ_ONLY,
    SHORT,
    STRING,
    TYPE_NAMES,
)
from ottla.settings.topic_settings import BROKER_SYNONYMS, TOPIC_SETTINGS

EVERY_SETTING = [*TOPIC_SETTINGS.values(), *BROKER_SETTINGS.values()]
PYTHON_TYPES = {
    BOOLEAN: bool,
    STRING: str,
    PASSWORD: str,
    INT: int,
    SHORT: int,
    LONG: int,
    DOUBLE: float,
    LIST: tuple[str, ...],
}


def _id(setting: Setting) -> str:
    return setting.name


@pytest.mark.parametrize("setting", EVERY_SETTING, ids=_id)
def test_a_default_is_what_its_own_text_parses_to(setting: Setting) -> None:
    if setting.default is not None:
        assert setting.parse(to_text(setting.default)) == setting.default
        assert setting.type in PYTHON_TYPES
        assert TYPE_NAMES[setting.type]


@pytest.mark.parametrize("setting", EVERY_SETTING, ids=_id)
def test_a_setting_is_described_in_one_line(setting: Setting) -> None:
    doc = documentation(setting) if setting.name in BROKER_SETTINGS else setting.doc
    assert doc.endswith(".")
    assert "\n" not in doc
    assert len(doc) < 330


@pytest.mark.parametrize("config", [TopicConfig, BrokerConfig])
def test_attributes_are_annotated_with_their_settings_types(config: type) -> None:
    settings = TOPIC_SETTINGS if config is TopicConfig else BROKER_SETTINGS
    hints = typing.get_type_hints(config)
    families = {"log.retention.ms", "log.roll.ms", "log.roll.jitter.ms", "log.flush.interval.ms"}
    for name, setting in settings.items():
        expected: object = PYTHON_TYPES[setting.type]
        if setting.default is None and name not in families:
            expected = typing.Optional[expected]  # noqa: UP045
        assert hints[setting.attribute] == expected, name


def test_synonyms_name_settings_that_exist_with_the_same_default() -> None:
    for topic_name, names in BROKER_SYNONYMS.items():
        topic_setting = TOPIC_SETTINGS[topic_name]
        for broker_name, factor in names:
            broker_setting = BROKER_SETTINGS[broker_name]
            if broker_setting.default is not None:
                default = broker_setting.default
                if factor != 1:
                    assert isinstance(default, int)
                    default *= factor
                assert default == topic_setting.default, broker_name
        assert TOPIC_SYNONYMS[names[0][0]] == topic_name


def test_topic_defaults_without_a_broker_are_those_of_a_default_broker() -> None:
    assert TopicConfig.from_overrides(None) == TopicConfig.from_overrides(BrokerConfig.of())


def test_a_setting_is_either_implemented_or_only_known() -> None:
    assert not KNOWN_TO_KAFKA & set(BROKER_SETTINGS)
    assert is_known_to_kafka("listener.name.external.ssl.keystore.location")
    assert not is_known_to_kafka("log.retention.mss")
    assert set(OUR_DEFAULTS) <= set(BROKER_SETTINGS)
    assert {name for family in FAMILIES for name in family} <= set(BROKER_SETTINGS)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("cleanup.policy", ("delete",)),
        ("retention.ms", 604_800_000),
        ("retention.bytes", -1),
        ("segment.bytes", 1_073_741_824),
        ("segment.ms", 604_800_000),
        ("segment.index.bytes", 10_485_760),
        ("index.interval.bytes", 4096),
        ("max.message.bytes", 1_048_588),
        ("flush.messages", 9_223_372_036_854_775_807),
        ("flush.ms", 9_223_372_036_854_775_807),
        ("file.delete.delay.ms", 60_000),
        ("min.insync.replicas", 1),
        ("compression.type", "producer"),
        ("message.timestamp.type", "CreateTime"),
    ],
)
def test_topic_defaults_are_kafkas(name: str, default: object) -> None:
    assert TOPIC_SETTINGS[name].default == default


@pytest.mark.parametrize(
    ("name", "default", "update"),
    [
        ("num.partitions", 1, READ_ONLY),
        ("auto.create.topics.enable", True, READ_ONLY),
        ("socket.request.max.bytes", 104_857_600, READ_ONLY),
        ("message.max.bytes", 1_048_588, CLUSTER_WIDE),
        ("log.retention.hours", 168, READ_ONLY),
        ("log.retention.ms", None, CLUSTER_WIDE),
        ("max.connections", 2_147_483_647, READ_ONLY),
        ("offsets.retention.minutes", 10_080, READ_ONLY),
        ("offsets.topic.num.partitions", 50, READ_ONLY),
        ("offsets.topic.replication.factor", 3, READ_ONLY),
        ("group.min.session.timeout.ms", 6000, READ_ONLY),
        ("group.max.session.timeout.ms", 1_800_000, READ_ONLY),
        ("fetch.max.bytes", 57_671_680, READ_ONLY),
        ("producer.id.expiration.ms", 86_400_000, CLUSTER_WIDE),
    ],
)
def test_broker_defaults_and_their_modes_are_kafkas(
    name: str, default: object, update: str
) -> None:
    assert BROKER_SETTINGS[name].default == default
    assert BROKER_SETTINGS[name].update == update


def test_hundreds_of_clients_may_come_back_at_once() -> None:
    """With Kafka's 50 the kernel dropped the others' first packets, and each waited a second to send it again."""
    assert BROKER_SETTINGS["socket.listen.backlog.size"].default == 512
    assert NetworkLimits().socket_listen_backlog_size == 512
