"""Topic names, as Kafka's ``TopicTest`` has them."""

from __future__ import annotations

import pytest

from ottla.controller import topic_names
from ottla.errors import ErrorCode, KafkaError


@pytest.mark.parametrize(
    "name", ["valid", "TOPIC", "nAmEs", "ar6", "VaL1d", "_0-9_.", "...", "a" * 249, "-", "0"]
)
def test_legal_names_pass(name: str) -> None:
    topic_names.validate(name)
    assert topic_names.is_valid(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "the empty string is not allowed"),
        (".", "'.' is not allowed"),
        ("..", "'..' is not allowed"),
        ("a" * 250, "longer than the max allowed length 249"),
        ("foo bar", "ASCII alphanumerics"),
        ("foo/bar", "ASCII alphanumerics"),
        ("grün", "ASCII alphanumerics"),
        ("٣", "ASCII alphanumerics"),
        ("foo\0", "ASCII alphanumerics"),
    ],
)
def test_illegal_names_say_why(name: str, reason: str) -> None:
    with pytest.raises(KafkaError) as raised:
        topic_names.validate(name)
    assert raised.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert reason in str(raised.value)
    assert not topic_names.is_valid(name)


def test_names_collide_where_only_dots_and_underscores_differ() -> None:
    topics = ["topic.name", "topic-name", "topicname", "other_topic"]
    assert topic_names.collisions("topic_name", topics) == ["topic.name"]
    assert topic_names.collisions("topic-name", ["topic_name"]) == []
    assert topic_names.collisions("other_topic", ["other.topic", "other_topic"]) == [
        "other.topic",
        "other_topic",
    ]


def test_internal_topics_are_the_brokers_own() -> None:
    assert topic_names.is_internal("__consumer_offsets")
    assert topic_names.is_internal("__transaction_state")
    assert not topic_names.is_internal("__mine")
