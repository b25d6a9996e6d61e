"""Settings that cannot be are refused where they are given; names and protocols are Kafka's."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.client.consumer.assignors import MemberSubscription
from ottla.client.consumer.protocol import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.client.consumer.settings import consumer_settings
from ottla.client.partitioner import KeyPartitioner, StickyPartition
from ottla.client.producer.settings import producer_settings
from ottla.client.record import Record
from ottla.client.serializers import deserializer, serializer, to_bytes
from ottla.client.types import TopicPartition
from ottla.errors import KafkaError


@pytest.mark.parametrize(
    "wrong",
    [
        {"acks": 2},
        {"acks": 1},  # not with idempotence
        {"compression": "brotli"},
        {"max_in_flight": 6},
        {"max_in_flight": 0},
        {"linger_ms": -1},
        {"value_serializer": "xml"},
    ],
)
def test_producer_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        producer_settings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"auto_offset_reset": "first"},
        {"isolation_level": "serializable"},
        {"assignors": []},
        {"assignors": ["random"]},
        {"max_poll_records": 0},
        {"heartbeat_interval_ms": 50_000},
        {"fetch_min_bytes": -1},
        {"key_deserializer": "xml"},
    ],
)
def test_consumer_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        consumer_settings("g", **wrong)


def test_a_group_is_a_name_and_an_instance_needs_one() -> None:
    with pytest.raises(ValueError, match="name"):
        consumer_settings("")
    with pytest.raises(ValueError, match="group"):
        consumer_settings(None, group_instance_id="i")
    assert not consumer_settings(None).auto_commit
    assert consumer_settings("g").auto_commit


def test_a_misspelt_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="linger"):
        producer_settings(linger=5)  # type: ignore[call-arg]


def test_text_and_bytes_like_become_bytes() -> None:
    assert to_bytes("ä") == "ä".encode()
    assert to_bytes(memoryview(b"ab")) == b"ab"
    assert to_bytes(bytearray(b"ab")) == b"ab"
    with pytest.raises(TypeError, match="serializer"):
        to_bytes(1.5)


def test_serializers_have_names() -> None:
    write, read = serializer("json"), deserializer("json")
    assert write is not None
    assert read is not None
    assert read(write({"a": [1, None]}) or b"") == {"a": [1, None]}
    assert serializer("str") is None
    assert deserializer("bytes") is None
    text = deserializer("str")
    assert text is not None
    assert text("ä".encode()) == "ä"


def test_the_last_header_of_a_name_is_the_header() -> None:
    record = Record("t", 0, 0, 0, None, None, [("a", b"1"), ("b", b"2"), ("a", b"3")])
    assert record.header("a") == b"3"
    assert record.header("c") is None


def test_a_key_keeps_its_partition_and_no_key_has_none() -> None:
    partitioner = KeyPartitioner()
    assert partitioner("t", None, 3) is None
    first = partitioner("t", b"JFK", 3)
    assert first == partitioner("u", b"JFK", 3)
    for number in range(20_000):
        assert partitioner("t", b"%d" % number, 7) in range(7)
    assert partitioner("t", b"JFK", 3) == first


def test_a_sticky_partition_stays_for_its_share_and_while_it_has_a_leader() -> None:
    chosen = iter((0, 1, 2, 0))
    sticky = StickyPartition(lambda count: next(chosen) % count, share_bytes=100)
    assert sticky.at_batch_end(0, [0, 1, 2]) == 0
    assert sticky.at_batch_end(60, [0, 1, 2]) == 0
    assert sticky.at_batch_end(60, [0, 1, 2]) == 1
    assert sticky.at_batch_end(10, [0, 2]) == 0
    assert sticky.at_batch_end(200, [2]) == 2


def test_a_subscription_has_javas_bytes() -> None:
    data = encode_subscription(
        MemberSubscription(
            ["b", "a"], b"\x01", [TopicPartition("a", 1), TopicPartition("a", 0)], 7, "r"
        )
    )
    assert data.hex(" ", -4) == bytes.fromhex(
        "0003"  # version
        "00000002 0001 61 0001 62"  # topics, sorted
        "00000001 01"  # user data
        "00000001 0001 61 00000002 00000000 00000001"  # owned partitions
        "00000007"  # generation
        "0001 72"  # rack
    ).hex(" ", -4)
    read = decode_subscription(data, "instance")
    assert read.topics == ["a", "b"]
    assert read.owned_partitions == [("a", 0), ("a", 1)]
    assert (read.generation_id, read.rack_id, read.group_instance_id) == (7, "r", "instance")


def test_old_and_new_subscriptions_are_read() -> None:
    old = bytes.fromhex("0000 00000001 0001 61 ffffffff")
    assert decode_subscription(old) == MemberSubscription(["a"])
    newer = (
        encode_subscription(MemberSubscription(["a"])).replace(b"\0\x03", b"\0\x09", 1) + b"more"
    )
    assert decode_subscription(newer).topics == ["a"]


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0\0\x05", b"\xff\xff\0\0"])
def test_what_is_no_subscription_is_a_kafka_error(data: bytes) -> None:
    with pytest.raises(KafkaError):
        decode_subscription(data)


def test_an_assignment_comes_back_and_none_is_empty() -> None:
    partitions = [TopicPartition("a", 0), TopicPartition("a", 2), TopicPartition("b", 1)]
    assert decode_assignment(encode_assignment(partitions)) == partitions
    assert decode_assignment(b"") == []
