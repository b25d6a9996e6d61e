"""Metadata: what is told of topics and brokers, and what is not told twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ottla.broker.listening import error_response
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.network.request import Request
from ottla.testing import Broker
from tests.support.requests import create_topic
from tests.support.wire import Wire


def topics(wire: Wire, *names: str, version: int = 9) -> list[Any]:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=name) for name in names])
    found: list[Any] = wire.ask(request, version).topics
    return found


def test_a_topic_that_is_asked_for_a_thousand_times_is_told_once(wire: Wire) -> None:
    create_topic(wire, "t", partitions=3)
    found = topics(wire, *["t", "none.such!"] * 1000)
    assert [(topic.name, len(topic.partitions)) for topic in found] == [("t", 3), ("none.such!", 0)]
    topic_id = topics(wire, "t", version=12)[0].topic_id
    twice = MetadataRequest(topics=[MetadataRequestTopic(topic_id=topic_id)] * 2)
    assert len(wire.ask(twice, 12).topics) == 1


@pytest.mark.ottla({"auto.create.topics.enable": "false"})
def test_a_name_that_no_topic_can_have_is_invalid_whether_or_not_topics_are_created(
    wire: Wire,
) -> None:
    codes = [topic.error_code for topic in topics(wire, "not here", "not.here", "")]
    assert codes == [
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
    ]


@pytest.mark.ottla(
    {
        "listeners": "IN://127.0.0.1:0,OUT://127.0.0.1:0",
        "advertised.listeners": "OUT://127.0.0.1:19092",
        "listener.security.protocol.map": "IN:PLAINTEXT,OUT:PLAINTEXT",
        "inter.broker.listener.name": "OUT",
    }
)
def test_a_listener_that_is_not_advertised_says_that_it_has_no_leader(ottla_broker: Broker) -> None:
    with Wire(ottla_broker.bootstrap) as wire:
        create_topic(wire, "t")
        for version, code in ((6, ErrorCode.LISTENER_NOT_FOUND), (5, 5)):
            partition = topics(wire, "t", version=version)[0].partitions[0]
            assert (partition.error_code, partition.leader_id) == (code, -1)


def test_a_hundred_clients_create_one_topic_together(ottla_broker: Broker) -> None:
    def ask(_: int) -> Any:
        with Wire(ottla_broker.bootstrap) as wire:
            return topics(wire, "new")[0]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(ask, range(100)))
    assert {topic.error_code for topic in found} == {0}
    assert {partition.leader_id for topic in found for partition in topic.partitions} == {1}


@pytest.mark.parametrize(
    ("api_key", "version", "told"),
    [(3, 12, False), (3, 13, True), (1, 6, False), (1, 7, True), (10, 3, True), (10, 4, False)],
)
def test_a_failure_is_never_told_as_an_empty_success(
    api_key: int, version: int, told: bool
) -> None:
    request = Request(api_key, version, 1, None, None, None)  # type: ignore[arg-type]
    answer: Any = error_response(request, KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR))
    assert (answer is not None) is told
    assert answer is None or answer.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
