"""A topic's settings: overrides over the broker's over the defaults."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode
from ottla.settings.definitions import BrokerConfig, SettingError, TopicConfig


def test_a_topic_takes_the_brokers_values_in_its_own_units() -> None:
    broker = BrokerConfig.of(
        {
            "log.retention.hours": 2,
            "log.roll.hours": 3,
            "message.max.bytes": 99,
            "log.cleanup.policy": "compact",
        }
    )
    config = TopicConfig.from_overrides(broker)
    assert config.retention_ms == 7_200_000
    assert config.segment_ms == 10_800_000
    assert config.max_message_bytes == 99
    assert config.compact
    assert not config.delete


def test_an_override_is_stronger_than_the_broker() -> None:
    broker = BrokerConfig.of({"log.retention.ms": 5})
    config = TopicConfig.from_overrides(
        broker, {"retention.ms": "6", "cleanup.policy": "compact,delete"}
    )
    assert config.retention_ms == 6
    assert config.compact
    assert config.delete
    assert config.overrides == {"retention.ms": "6", "cleanup.policy": "compact,delete"}


def test_bad_overrides_are_invalid_config_in_kafkas_words() -> None:
    for overrides, message in [
        ({"retention.mss": "1"}, "Unknown topic config name: retention.mss (did you mean retention.ms?)"),
        ({"log.retention.hours": "1"}, "Unknown topic config name: log.retention.hours (the topic's name for it is retention.ms)"),
        ({"retention.ms": "x"}, "Invalid value x for configuration retention.ms: Not a number of type LONG"),
        (
            {"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "4"},
            "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (4)",
        ),
    ]:  # fmt: skip
        with pytest.raises(SettingError) as caught:
            TopicConfig.from_overrides(None, overrides)
        assert caught.value.code is ErrorCode.INVALID_CONFIG
        assert str(caught.value) == caught.value.message == message


def test_stored_overrides_of_another_version_are_left_out() -> None:
    stored = {"retention.ms": "6", "segment.bytes": "none", "shiny": "1", "min.compaction.lag.ms": "5", "max.compaction.lag.ms": "4"}  # fmt: skip
    config = TopicConfig.from_overrides(None, stored, lenient=True)
    assert config.retention_ms == 6
    assert config.segment_bytes == 1 << 30
    assert config.ignored == ("segment.bytes", "shiny")
    assert config.min_compaction_lag_ms == 4


def test_the_older_limit_of_timestamps_holds_where_the_newer_are_not_set() -> None:
    config = TopicConfig.of(
        message_timestamp_difference_max_ms=10, message_timestamp_before_max_ms=3
    )
    assert config.timestamp_before_max_ms == 3
    assert config.timestamp_after_max_ms == 10
    config = TopicConfig.of(
        message_timestamp_after_max_ms=4, message_timestamp_type="LogAppendTime"
    )
    assert config.timestamp_after_max_ms == 4
    assert config.log_append_time


def test_configs_are_equal_when_their_values_are() -> None:
    assert TopicConfig.of(retention_ms=604_800_000) == TopicConfig.of()
    assert TopicConfig.of(retention_ms=1) != TopicConfig.of()
    assert TopicConfig.of() != "TopicConfig"
    assert repr(TopicConfig.of(preallocate=True)) == "TopicConfig({'preallocate': 'true'})"
