"""One value: text to value, and the words of a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.errors import ErrorCode
from ottla.settings.definitions import BROKER_SETTINGS, TOPIC_SETTINGS, SettingError, to_text


def _refusal(name: str, text: str) -> str:
    setting = TOPIC_SETTINGS.get(name) or BROKER_SETTINGS[name]
    with pytest.raises(SettingError) as caught:
        setting.parse(text)
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("retention.ms", " 1000 ", 1000),
        ("retention.ms", "+5", 5),
        ("retention.ms", "-1", -1),
        ("preallocate", "TRUE", True),
        ("preallocate", "false", False),
        ("cleanup.policy", "compact, delete", ("compact", "delete")),
        ("cleanup.policy", "", ()),
        ("min.cleanable.dirty.ratio", "0.25", 0.25),
        ("min.cleanable.dirty.ratio", "1", 1.0),
        ("compression.gzip.level", "-1", -1),
        ("compression.type", "zstd", "zstd"),
        ("log.dirs", " /a , /b ", "/a , /b"),
    ],
)
def test_text_is_read_as_kafka_reads_it(name: str, text: str, value: object) -> None:
    setting = TOPIC_SETTINGS.get(name) or BROKER_SETTINGS[name]
    assert setting.parse(text) == value


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("retention.ms", "abc", "Not a number of type LONG"),
        ("retention.ms", "1_000", "Not a number of type LONG"),
        ("retention.ms", "1.5", "Not a number of type LONG"),
        ("retention.ms", "", "Not a number of type LONG"),
        ("retention.ms", "٣", "Not a number of type LONG"),
        ("retention.ms", "9223372036854775808", "Not a number of type LONG"),
        ("retention.ms", "9" * 100_000, "Not a number of type LONG"),
        ("segment.bytes", "2147483648", "Not a number of type INT"),
        ("offsets.topic.replication.factor", "40000", "Not a number of type SHORT"),
        ("retention.ms", "-2", "Value must be at least -1"),
        ("segment.bytes", "13", "Value must be at least 14"),
        ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
        ("min.cleanable.dirty.ratio", "nan", "Not a number of type DOUBLE"),
        ("min.cleanable.dirty.ratio", "inf", "Not a number of type DOUBLE"),
        ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
        ("preallocate", "yes", "Expected value to be either true or false"),
        ("compression.type", "brotli", "String must be one of: uncompressed, zstd, lz4"),
        ("cleanup.policy", "delete,shred", "String must be one of: compact, delete"),
        ("remote.storage.enable", "true", "String must be one of: false"),
        ("durability", "tape", "String must be one of: disk, os"),
    ],
)
def test_a_refusal_names_setting_value_and_what_is_allowed(name: str, text: str, why: str) -> None:
    message = _refusal(name, text)
    assert message.startswith("Invalid value ")
    assert f" for configuration {name}: " in message
    assert why in message


def test_a_value_must_be_there() -> None:
    with pytest.raises(SettingError, match=r"retention\.ms: Value must be non-null"):
        TOPIC_SETTINGS["retention.ms"].parse(None)


@given(st.text(), st.sampled_from([*TOPIC_SETTINGS.values(), *BROKER_SETTINGS.values()]))
def test_any_text_is_a_value_or_a_refusal(text: str, setting: object) -> None:
    from ottla.settings.definitions import Setting

    assert isinstance(setting, Setting)
    try:
        value = setting.parse(text)
    except SettingError:
        return
    assert setting.parse(to_text(value)) == value
