"""What DescribeConfigs tells."""

from __future__ import annotations

from ottla.settings.broker_settings import BROKER_SETTINGS
from ottla.settings.definitions import BrokerConfig
from ottla.settings.describe import (
    DEFAULT_CONFIG,
    DYNAMIC_BROKER_CONFIG,
    DYNAMIC_DEFAULT_BROKER_CONFIG,
    DYNAMIC_TOPIC_CONFIG,
    STATIC_BROKER_CONFIG,
    Described,
    Synonym,
    describe_broker_config,
    describe_broker_defaults,
    describe_topic_config,
)
from ottla.settings.setting import LIST, LONG
from ottla.settings.topic_settings import TOPIC_SETTINGS


def _topic(broker: BrokerConfig, overrides: dict[str, str], name: str) -> Described:
    (found,) = describe_topic_config(broker, overrides, [name])
    return found


def _broker(broker: BrokerConfig, name: str) -> Described:
    (found,) = describe_broker_config(broker, [name])
    return found


SECRETS = {
    "zookeeper.digest.auth",
    "zookeeper.ssl.keystore.password",
    "zookeeper.ssl.truststore.password",
}


def test_every_setting_is_told() -> None:
    broker = BrokerConfig.of()
    assert [item.name for item in describe_topic_config(broker, {})] == list(TOPIC_SETTINGS)
    assert [item.name for item in describe_broker_config(broker)] == list(BROKER_SETTINGS)
    for item in [*describe_topic_config(broker, {}), *describe_broker_config(broker)]:
        assert item.documentation
        assert item.sensitive == (item.name in SECRETS)
        assert item.source == DEFAULT_CONFIG


def test_names_that_are_asked_for_and_unknown_are_passed_over() -> None:
    assert describe_topic_config(BrokerConfig.of(), {}, ["bananas"]) == []


def test_a_topics_own_value_is_told_with_what_lies_below_it() -> None:
    broker = BrokerConfig.of({"log.retention.hours": 2})
    broker = broker.with_dynamic({"log.retention.ms": "30"}, {"log.retention.ms": "20"})
    item = _topic(broker, {"retention.ms": "10"}, "retention.ms")
    assert (item.value, item.source, item.type, item.read_only) == (
        "10",
        DYNAMIC_TOPIC_CONFIG,
        LONG,
        False,
    )
    assert item.synonyms == (
        Synonym("retention.ms", "10", DYNAMIC_TOPIC_CONFIG),
        Synonym("log.retention.ms", "20", DYNAMIC_BROKER_CONFIG),
        Synonym("log.retention.ms", "30", DYNAMIC_DEFAULT_BROKER_CONFIG),
        Synonym("log.retention.hours", "2", STATIC_BROKER_CONFIG),
        Synonym("log.retention.hours", "168", DEFAULT_CONFIG),
    )


def test_a_topics_inherited_value_tells_its_source() -> None:
    item = _topic(BrokerConfig.of({"log.retention.hours": 2}), {}, "retention.ms")
    assert (item.value, item.source) == ("7200000", STATIC_BROKER_CONFIG)
    item = _topic(BrokerConfig.of(), {"cleanup.policy": "compact, delete"}, "cleanup.policy")
    assert (item.value, item.type) == ("compact,delete", LIST)
    item = _topic(BrokerConfig.of(), {}, "preallocate")
    assert (item.value, item.source, item.synonyms) == ("false", DEFAULT_CONFIG, ())


def test_a_brokers_value_tells_its_source_and_whether_it_can_change() -> None:
    broker = BrokerConfig.of({"message.max.bytes": 5, "num.partitions": 3, "broker.id": 4})
    item = _broker(broker, "message.max.bytes")
    assert (item.value, item.source, item.read_only) == ("5", STATIC_BROKER_CONFIG, False)
    item = _broker(broker.with_dynamic({"message.max.bytes": "6"}, {}), "message.max.bytes")
    assert (item.value, item.source) == ("6", DYNAMIC_DEFAULT_BROKER_CONFIG)
    assert _broker(broker, "num.partitions").read_only
    assert _broker(broker, "node.id").value == "4"
    assert _broker(broker, "auto.create.topics.enable").value == "true"
    assert "topic setting max.message.bytes" in _broker(broker, "message.max.bytes").documentation


def test_a_member_of_a_family_that_is_not_set_has_no_value() -> None:
    broker = BrokerConfig.of({"log.retention.hours": 3})
    item = _broker(broker, "log.retention.ms")
    assert (item.value, item.source) == (None, DEFAULT_CONFIG)
    assert item.synonyms[0] == Synonym("log.retention.hours", "3", STATIC_BROKER_CONFIG)
    assert _broker(broker, "log.retention.hours").value == "3"
    assert _broker(BrokerConfig.of({"log.retention.ms": 3}), "log.retention.ms").value == "3"


def test_the_defaults_for_all_brokers_are_only_what_was_altered() -> None:
    broker = BrokerConfig.of({"message.max.bytes": 9})
    assert describe_broker_defaults(broker) == []
    broker = broker.with_dynamic(
        {"message.max.bytes": "5", "min.insync.replicas": "2"}, {"message.max.bytes": "7"}
    )
    (item,) = describe_broker_defaults(broker, ["message.max.bytes"])
    assert (item.value, item.source) == ("5", DYNAMIC_DEFAULT_BROKER_CONFIG)
    assert item.synonyms == (Synonym("message.max.bytes", "5", DYNAMIC_DEFAULT_BROKER_CONFIG),)
    assert len(describe_broker_defaults(broker)) == 2


def test_a_password_is_never_shown() -> None:
    broker = BrokerConfig.of({"zookeeper.digest.auth": "ottla:s3cret"})
    described = _broker(broker, "zookeeper.digest.auth")
    assert "s3cret" not in str(described)
    assert described.sensitive
