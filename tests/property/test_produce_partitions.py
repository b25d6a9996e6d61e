"""Requests for several partitions that come together fare, batch by batch, as if each had come alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.messages import registry
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.testing import Broker
from tests.property.test_produce_runs import BATCHES, good
from tests.support.requests import create_topic, fetch_request
from tests.support.wire import Wire

PARTITIONS = 3
NOT_THERE = 7

Sent = tuple[list[list[tuple[int, bytes | None]]], int, int]
"""A request: its topics' partitions with their batches, acks, version."""


@st.composite
def trains(draw: st.DrawFn) -> list[Sent]:
    """What is sent: mostly good batches, a partition now and then twice, or one that is not there."""
    version = draw(st.sampled_from([9, 13, 7, 11, 5, 3]))
    indexes = st.sampled_from([*range(PARTITIONS)] * 5 + [NOT_THERE])
    number = 0
    requests = []
    for _ in range(draw(st.integers(2, 8))):
        topics = []
        for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
            partitions = []
            for index in draw(st.lists(indexes, min_size=0 if topics else 1, max_size=6)):
                kind = draw(st.sampled_from([*[good] * 12, *BATCHES]))
                partitions.append((index, kind(number)))
                number += 1
            topics.append(partitions)
        requests.append((topics, draw(st.sampled_from([1, 1, 1, -1])), version))
    return requests


@pytest.fixture(scope="module", params=["os", "disk"])
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    with Broker({"durability": request.param}) as broker:
        yield broker.bootstrap


class Topics:
    """Topics of their own, and what came of the requests to them."""

    made = 0

    def __init__(self, wire: Wire) -> None:
        Topics.made += 1
        self.wire = wire
        self.names = [f"topic-{Topics.made}-{number}" for number in range(2)]
        self.ids = [
            create_topic(wire, name, PARTITIONS, max_message_bytes=25_000, segment_bytes=20_000)
            for name in self.names
        ]

    def request(self, sent: Sent) -> ProduceRequest:
        topics, acks, _ = sent
        data = [
            TopicProduceData(
                name=name,
                topic_id=topic_id,
                partition_data=[
                    PartitionProduceData(index=index, records=records)
                    for index, records in partitions
                ],
            )
            for name, topic_id, partitions in zip(self.names, self.ids, topics, strict=False)
        ]
        return ProduceRequest(acks=acks, timeout_ms=20_000, topic_data=data)

    def send(self, requests: list[Sent]) -> list[Any]:
        """With one send; the partitions' answers, by topic."""
        data = b""
        for number, sent in enumerate(requests):
            chunks = registry.encode_request(self.request(sent), sent[2], number, "train")
            data += registry.encode_size(chunks) + b"".join(bytes(chunk) for chunk in chunks)
        self.wire.socket.sendall(data)
        answers = []
        for number, (topics, _, version) in enumerate(requests):
            frame = self.wire.receive_frame()
            assert registry.read_correlation_id(frame) == number
            responses = registry.decode_response(0, version, frame).responses
            told = [(topic.name, topic.topic_id) for topic in responses]
            known = [
                (name, bytes(16)) if version < 13 else ("", topic_id)
                for name, topic_id in zip(self.names, self.ids, strict=True)
            ]
            assert told == known[: len(topics)]
            answers.append([topic.partition_responses for topic in responses])
        return answers

    def records(self) -> list[tuple[int, int, bytes]]:
        """The partitions' bytes up to a last record, behind which all is committed."""
        last = [(index, good(0)) for index in range(PARTITIONS)]
        self.send([([last, last], -1, 9)])
        found = []
        for name in self.names:
            request = fetch_request(name, *[0] * PARTITIONS, max_bytes=10_000_000)
            answer = self.wire.ask(request, 12)
            found += [
                (partition.high_watermark, partition.log_start_offset, bytes(partition.records))
                for partition in answer.responses[0].partitions
            ]
        return found


@settings(max_examples=30, deadline=None)
@given(train=trains())
def test_each_batch_fares_as_if_its_request_came_alone(bootstrap: str, train: list[Sent]) -> None:
    with Wire(bootstrap) as one, Wire(bootstrap) as other:
        together, alone = Topics(one), Topics(other)
        answers = together.send(train)
        assert answers == [alone.send([request])[0] for request in train]
        assert together.records() == alone.records()
