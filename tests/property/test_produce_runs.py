"""Requests that come together are answered, and leave in the log, what the same requests leave that come one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.broker.handlers.produce_run import ProduceRun
from ottla.messages import registry
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.testing import Broker
from tests.support.requests import create_topic, fetch_request
from tests.support.wire import Wire, batch

CRC_AT = 17


def good(number: int) -> bytes:
    return batch(b"value %d" % number)


def several(number: int) -> bytes:
    return batch(b"a", b"b" * number, b"c")


def large(number: int) -> bytes:
    return batch(bytes(17_000 + number))


def too_large(number: int) -> bytes:
    return batch(bytes(30_000 + number))


def wrong_sum(number: int) -> bytes:
    data = bytearray(good(number))
    data[CRC_AT] ^= 1
    return bytes(data)


def cut(number: int) -> bytes:
    return good(number)[: 5 * number]


def idempotent(number: int) -> bytes:
    """In order, again, too early, or too late, as it comes."""
    return batch(b"once %d" % number, producer_id=7, producer_epoch=0, base_sequence=number // 2)


def nothing(number: int) -> bytes | None:
    return b"" if number % 2 else None


BATCHES = [*[good] * 6, several, large, too_large, wrong_sum, cut, *[idempotent] * 4, nothing]


@st.composite
def trains(draw: st.DrawFn) -> list[tuple[Any, int, int, int]]:
    """What is sent: records, partition, acks, version; mostly alike."""
    version = draw(st.sampled_from([9, 13, 7, 8, 10, 12, 5, 3]))
    acks = draw(st.sampled_from([1, -1]))
    requests = []
    for number in range(draw(st.integers(6, 30))):
        kind = draw(st.sampled_from(BATCHES if number else BATCHES[:6]))
        if number and draw(st.integers(0, 19)) == 7:
            acks, version = draw(st.sampled_from([1, -1])), draw(st.integers(3, 13))
        requests.append((kind(number), int(draw(st.integers(0, 19)) == 7), acks, version))
    return requests


@pytest.fixture(scope="module", params=["os", "disk"])
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """A broker; at the end it must have had its runs of requests."""
    runs: list[int] = []
    settle = ProduceRun.settle

    def counted(run: ProduceRun) -> Any:
        runs.append(run.count)
        return settle(run)

    with (
        pytest.MonkeyPatch.context() as patch,
        Broker({"durability": request.param}) as broker,
    ):
        patch.setattr(ProduceRun, "settle", counted)
        yield broker.bootstrap
    assert max(runs, default=0) > 1


class Topic:
    """A topic of its own, and what came of the requests to it."""

    made = 0

    def __init__(self, wire: Wire) -> None:
        Topic.made += 1
        self.wire = wire
        self.name = f"topic-{Topic.made}"
        self.id = create_topic(wire, self.name, 2, max_message_bytes=25_000, segment_bytes=20_000)
        self._sent = 0

    def request(self, records: bytes | None, partition: int, acks: int) -> ProduceRequest:
        data = PartitionProduceData(index=partition, records=records)
        topic = TopicProduceData(name=self.name, topic_id=self.id, partition_data=[data])
        return ProduceRequest(acks=acks, timeout_ms=20_000, topic_data=[topic])

    def send(self, requests: list[tuple[Any, int, int, int]]) -> list[Any]:
        """With one send; what was answered."""
        data = b""
        for number, (records, partition, acks, version) in enumerate(requests):
            message = self.request(records, partition, acks)
            chunks = registry.encode_request(message, version, number, "train")
            data += registry.encode_size(chunks) + b"".join(bytes(chunk) for chunk in chunks)
        self.wire.socket.sendall(data)
        answers = []
        for number, (_, _, _, version) in enumerate(requests):
            frame = self.wire.receive_frame()
            assert registry.read_correlation_id(frame) == number
            (topic,) = registry.decode_response(0, version, frame).responses
            assert (topic.name, topic.topic_id) == (
                (self.name, bytes(16)) if version < 13 else ("", self.id)
            )
            (answer,) = topic.partition_responses
            answers.append(answer)
        return answers

    def records(self) -> list[tuple[int, int, bytes]]:
        """The partitions' bytes up to a last record, behind which all is committed."""
        for partition in (0, 1):
            self.send([(good(0), partition, -1, 9)])
        answer = self.wire.ask(fetch_request(self.name, 0, 0, max_bytes=10_000_000), 12)
        return [
            (partition.high_watermark, partition.log_start_offset, bytes(partition.records))
            for partition in answer.responses[0].partitions
        ]


@settings(max_examples=30, deadline=None)
@given(train=trains(), cut=st.integers(1, 5))
def test_requests_that_come_together_fare_as_if_each_came_alone(
    bootstrap: str, train: list[tuple[Any, int, int, int]], cut: int
) -> None:
    # Connections of their own: one learns what its requests are like from the first. Those behind the cut come when that is known.
    with Wire(bootstrap) as one, Wire(bootstrap) as other:
        together, alone = Topic(one), Topic(other)
        answers = together.send(train[:cut]) + together.send(train[cut:])
        assert answers == [alone.send([request])[0] for request in train]
        assert together.records() == alone.records()
