"""What a broker tells those who look after it: partitions in pages, producers, epochs."""

from __future__ import annotations

from typing import Any

from ottla.messages.describe_producers import DescribeProducersRequest
from ottla.messages.describe_producers import TopicRequest as ProducersTopic
from ottla.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.testing import Broker
from tests.support.requests import create_topic, produce
from tests.support.wire import Wire, batch


def pages(wire: Wire, limit: int, *names: str) -> list[list[tuple[str, int]]]:
    """Topic and partition of each page, going on where the cursor says."""
    cursor = None
    found = []
    while True:
        request = DescribeTopicPartitionsRequest(
            topics=[TopicRequest(name=name) for name in names],
            response_partition_limit=limit,
            cursor=cursor,
        )
        answer = wire.ask(request, 0)
        found.append([(t.name, p.partition_index) for t in answer.topics for p in t.partitions])
        cursor = answer.next_cursor
        if cursor is None:
            return found


def test_partitions_are_described_in_pages_without_a_gap(wire: Wire) -> None:
    create_topic(wire, "b", 3)
    create_topic(wire, "a", 2)
    everything = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
    for limit in range(1, 6):
        found = pages(wire, limit)
        assert [each for page in found for each in page] == everything
        assert all(len(page) <= limit for page in found)
    assert pages(wire, 100, "b", "a", "b") == [everything]
    assert [len(page) for page in pages(wire, 0)] == [1] * 5  # a page holds at least one


def test_a_page_is_never_larger_than_the_broker_allows() -> None:
    settings = {"max.request.partition.size.limit": 2}
    with Broker(settings) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "a", 3)
        assert [len(page) for page in pages(wire, 1000)] == [2, 1]


def test_a_cursor_that_leads_nowhere_is_refused(wire: Wire) -> None:
    create_topic(wire, "a")
    for cursor in (Cursor(topic_name="b"), Cursor(topic_name="a", partition_index=-1)):
        request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name="a")], cursor=cursor)
        assert [t.error_code for t in wire.ask(request, 0).topics] == [42]
    behind = Cursor(topic_name="a", partition_index=7)
    (topic,) = wire.ask(DescribeTopicPartitionsRequest(cursor=behind), 0).topics
    assert (topic.error_code, topic.partitions) == (0, [])


def producers(wire: Wire, topic: str) -> list[Any]:
    """The producers of partition 0."""
    wanted = ProducersTopic(name=topic, partition_indexes=[0])
    (found,) = wire.ask(DescribeProducersRequest(topics=[wanted]), 0).topics[0].partitions
    assert found.error_code == 0
    return list(found.active_producers)


def test_idempotent_producers_are_described_with_what_they_last_wrote(wire: Wire) -> None:
    create_topic(wire, "a")
    assert produce(wire, "a", batch(b"x")).error_code == 0
    assert producers(wire, "a") == []
    written = batch(b"x", b"y", producer_id=7, producer_epoch=2, base_sequence=0)
    assert produce(wire, "a", written).error_code == 0
    (found,) = producers(wire, "a")
    assert (found.producer_id, found.producer_epoch, found.last_sequence) == (7, 2, 1)
    assert found.last_timestamp == 1_700_000_000_001
    assert found.current_txn_start_offset == -1
