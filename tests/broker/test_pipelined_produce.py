"""Produce requests that come together are appended, written and answered together, and each for itself."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.log.disk import Disk
from ottla.messages import registry
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.testing import Broker
from ottla.wire.schema import Message
from tests.support.requests import create_topic, fetch, fetch_request, produce, produce_request
from tests.support.wire import Wire, batch


class Train:
    """Requests that leave with one send, and their answers in order."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._bytes = b""
        self._sent: list[tuple[Message, int]] = []

    def add(self, request: Message, version: int, *, answered: bool = True) -> None:
        """One more request."""
        chunks = registry.encode_request(request, version, len(self._sent), "train")
        self._bytes += registry.encode_size(chunks) + b"".join(bytes(chunk) for chunk in chunks)
        if answered:
            self._sent.append((request, version))

    def add_bytes(self, data: bytes) -> None:
        """Whatever else."""
        self._bytes += data

    def answers(self) -> list[Any]:
        """Send all, and receive all."""
        self.send()
        return self.receive()

    def send(self) -> None:
        """Send all."""
        self._wire.socket.sendall(self._bytes)

    def receive(self) -> list[Any]:
        """The answers to what was sent."""
        return [
            self._wire.receive(request, version, number)
            for number, (request, version) in enumerate(self._sent)
        ]


def have_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full amid every write of ``no room``."""
    pwrite = Disk.pwrite

    def full(descriptor: int, data: Any, position: int) -> int:
        if b"no room" in bytes(data):
            pwrite(descriptor, memoryview(data)[:10], position)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, position)

    monkeypatch.setattr(Disk, "pwrite", staticmethod(full))


def outcome(answer: Any) -> tuple[int, int]:
    """The error code and the base offset of a Produce with one partition."""
    (partition,) = answer.responses[0].partition_responses
    return partition.error_code, partition.base_offset


@pytest.mark.parametrize("durability", ["os", "disk"])
@pytest.mark.parametrize("acks", [1, -1])
def test_many_small_requests_are_answered_in_order_with_their_own_offsets(
    durability: str, acks: int
) -> None:
    with Broker({"durability": durability}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        train = Train(wire)
        for number in range(150):
            train.add(produce_request("t", batch(b"%d" % number), acks=acks), 9)
        assert [outcome(answer) for answer in train.answers()] == [(0, n) for n in range(150)]


@pytest.mark.parametrize(("durability", "acks"), [("os", 1), ("disk", -1)])
def test_large_requests_that_come_together_are_appended_in_order_to_all_their_partitions(
    durability: str, acks: int
) -> None:
    """They are read by windows, of which their batches are parts: none is written over another one."""
    requests, partitions = 24, 6

    def value(number: int, index: int) -> bytes:
        return b"%d to %d." % (number, index) * 2_000

    with Broker({"durability": durability}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t", partitions=partitions)
        train = Train(wire)
        for number in range(requests):
            data = [
                PartitionProduceData(index=index, records=batch(value(number, index)))
                for index in range(partitions)
            ]
            topic = TopicProduceData(name="t", partition_data=data)
            train.add(ProduceRequest(acks=acks, timeout_ms=20_000, topic_data=[topic]), 9)
        for number, answer in enumerate(train.answers()):
            answered = answer.responses[0].partition_responses
            assert [(one.error_code, one.base_offset) for one in answered] == [(0, number)] * 6
        fetched = wire.ask(fetch_request("t", *[0] * partitions, max_bytes=16 << 20), 12)
        for index, partition in enumerate(fetched.responses[0].partitions):
            records = bytes(partition.records)
            places = [records.find(value(number, index)) for number in range(requests)]
            assert -1 not in places
            assert places == sorted(places)


def test_a_fetch_behind_produce_requests_of_one_read_sees_their_records(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t")
    train = Train(wire)
    for number in range(3):
        train.add(produce_request("t", batch(b"record %d" % number), acks=1), 9)
    train.add(produce_request("t", batch(b"unanswered"), acks=0), 9, answered=False)
    train.add(fetch_request("t", 0), 12)
    train.add(produce_request("t", batch(b"last"), acks=1), 9)
    *produced, fetched, last = train.answers()
    assert [outcome(answer) for answer in produced] == [(0, 0), (0, 1), (0, 2)]
    (partition,) = fetched.responses[0].partitions
    assert partition.high_watermark == 4
    assert b"record 2" in bytes(partition.records)
    assert b"unanswered" in bytes(partition.records)
    assert outcome(last) == (0, 4)


def test_requests_that_were_good_are_answered_before_one_that_is_nonsense_hangs_up(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t")
    train = Train(wire)
    train.add(produce_request("t", batch(b"good"), acks=1), 9)
    train.add_bytes(b"\0\0\0\x0c" + b"\0\0" + b"\0\x09" + b"\xff" * 8)
    (answer,) = train.answers()
    assert outcome(answer) == (0, 0)
    assert wire.is_hung_up()


def test_of_a_request_for_several_partitions_only_those_without_room_are_refused(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t", 3)
    have_no_room(monkeypatch)
    train = Train(wire)
    for number in range(4):
        values = (b"a", b"no room %d" % number, b"c")
        data = [
            PartitionProduceData(index=index, records=batch(value))
            for index, value in enumerate(values)
        ]
        topic = TopicProduceData(name="t", partition_data=data)
        train.add(ProduceRequest(acks=1, timeout_ms=5000, topic_data=[topic]), 9)
    answers = train.answers()
    monkeypatch.undo()
    for number, answer in enumerate(answers):
        found = answer.responses[0].partition_responses
        assert [(one.index, one.error_code, one.base_offset) for one in found] == [
            (0, 0, number),
            (1, ErrorCode.KAFKA_STORAGE_ERROR, -1),
            (2, 0, number),
        ]
    assert [produce(wire, "t", batch(b"d"), partition=index).base_offset for index in range(3)] == [
        4,
        0,
        4,
    ]


def test_requests_of_one_read_that_find_no_room_are_all_refused_and_leave_nothing(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t")
    create_topic(wire, "other")
    assert produce(wire, "t", batch(b"first")).base_offset == 0
    have_no_room(monkeypatch)
    train = Train(wire)
    for number in range(4):
        train.add(produce_request("t", batch(b"no room %d" % number), acks=-number % 2 or 1), 9)
    train.add(produce_request("other", batch(b"has room"), acks=1), 9)
    *refused, other = train.answers()
    monkeypatch.undo()
    for answer in refused:
        assert outcome(answer) == (ErrorCode.KAFKA_STORAGE_ERROR, -1)
    assert outcome(other) == (0, 0)
    assert produce(wire, "t", batch(b"second")).base_offset == 1
    records = bytes(fetch(wire, "t").records)
    assert b"no room" not in records
    assert b"second" in records


def test_an_unanswered_request_that_finds_no_room_hangs_up(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Disk, "pwrite", full)
    wire.send(produce_request("t", batch(b"no room"), acks=0), 9)
    assert wire.is_hung_up()


def test_a_sequence_sent_twice_in_one_read_is_kept_once(ottla_broker: Broker, wire: Wire) -> None:
    create_topic(wire, "t")
    one = batch(b"once", producer_id=7, producer_epoch=0, base_sequence=0)
    two = batch(b"next", producer_id=7, producer_epoch=0, base_sequence=1)
    train = Train(wire)
    for records in (one, two, one, two):
        train.add(produce_request("t", records), 9)
    assert [outcome(answer) for answer in train.answers()] == [(0, 0), (0, 1), (0, 0), (0, 1)]
    records = bytes(fetch(wire, "t").records)
    assert records.count(b"once") == records.count(b"next") == 1
