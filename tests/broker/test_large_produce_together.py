"""Produce requests for several partitions that come at one moment on several connections are written together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from ottla.broker.handlers import fetch as fetch_handler
from ottla.errors import ErrorCode
from ottla.log.disk import Disk
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.network.joining import LATE_MAX
from ottla.testing import Broker
from tests.broker.test_joined_produce import Moment, at_one_moment, one_moment
from tests.broker.test_pipelined_produce import have_no_room
from tests.support.requests import create_topic, fetch_request, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch

PARTITIONS = 3
VERSION = 9
FETCH = 1


pytestmark = pytest.mark.usefixtures("no_turn_is_long")


def to_all(*values: bytes, acks: int = 1) -> ProduceRequest:
    """A record for each partition of ``t``."""
    data = [
        PartitionProduceData(index=index, records=batch(value))
        for index, value in enumerate(values)
    ]
    topic = TopicProduceData(name="t", partition_data=data)
    return ProduceRequest(acks=acks, timeout_ms=20_000, topic_data=[topic])


def told(answer: Any) -> list[tuple[int, int]]:
    """Error code and offset of each partition."""
    return [(one.error_code, one.base_offset) for one in answer.responses[0].partition_responses]


def everything(wire: Wire) -> list[bytes]:
    """What each partition of ``t`` holds."""
    answer = wire.ask(fetch_request("t", *[0] * PARTITIONS), 12)
    return [bytes(one.records) for one in answer.responses[0].partitions]


@contextmanager
def connected(broker: Broker, count: int) -> Iterator[list[Wire]]:
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(broker.bootstrap, "large")) for _ in range(count)]
        for wire in wires:
            wire.ask(to_all(*[b"before"] * PARTITIONS), VERSION)
        yield wires


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is written."""
    found: list[bytes] = []
    pwrite = Disk.pwrite

    def noted(descriptor: int, data: Any, position: int) -> int:
        found.append(bytes(data))
        return pwrite(descriptor, data, position)

    monkeypatch.setattr(Disk, "pwrite", staticmethod(noted))
    return found


@pytest.mark.parametrize("acks", [1, -1])
def test_a_partition_is_written_once_for_the_requests_of_one_moment(
    ottla_broker: Broker, wire: Wire, writes: list[bytes], acks: int
) -> None:
    create_topic(wire, "t", PARTITIONS)
    with connected(ottla_broker, LATE_MAX) as wires:
        writes.clear()
        requests = [
            (one, to_all(*[b"from %d" % number] * PARTITIONS, acks=acks))
            for number, one in enumerate(wires)
        ]
        answers = [told(answer) for answer in at_one_moment(ottla_broker, requests)]
    offsets = range(LATE_MAX, 2 * LATE_MAX)
    assert sorted(answers) == [[(0, offset)] * PARTITIONS for offset in offsets]
    batches = [data for data in writes if b"from " in data]
    assert len(batches) == PARTITIONS
    for number in range(LATE_MAX):
        assert all(b"from %d" % number in data for data in batches)


def test_more_connections_than_are_written_together_are_all_answered(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t", PARTITIONS)
    count = 2 * LATE_MAX + 1
    with connected(ottla_broker, count) as wires:
        requests = [(one, to_all(b"a", b"b", b"c")) for one in wires]
        answers = [told(answer) for answer in at_one_moment(ottla_broker, requests)]
        assert sorted(answers) == [[(0, offset)] * PARTITIONS for offset in range(count, 2 * count)]


def test_another_request_amid_the_moment_finds_written_what_was_appended_before_it(
    ottla_broker: Broker, wire: Wire, writes: list[bytes]
) -> None:
    create_topic(wire, "t", PARTITIONS)
    everything(wire)  # its handler is there
    assert ottla_broker.server is not None
    server = ottla_broker.server
    unwritten: list[int] = []

    def handle(broker: Any, request: Any) -> Any:
        logs = [partition.log for partition in server.replicas]
        unwritten.append(sum(log.segments.active.gathered_bytes for log in logs))
        return fetch_handler.handle(broker, request)

    with connected(ottla_broker, LATE_MAX) as (first, reader, second):
        server._handlers[FETCH] = handle
        answers = at_one_moment(
            ottla_broker,
            [
                (first, to_all(b"a", b"b", b"c")),
                (reader, fetch_request("t", *[LATE_MAX] * PARTITIONS)),
                (second, to_all(b"d", b"e", b"f")),
            ],
        )
    assert unwritten == [0]
    assert sorted([told(answers[0]), told(answers[2])]) == [
        [(0, offset)] * PARTITIONS for offset in (LATE_MAX, LATE_MAX + 1)
    ]
    assert not any(one.error_code for one in answers[1].responses[0].partitions)


def test_a_write_that_fails_is_told_to_all_whose_records_were_in_it(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t", PARTITIONS)
    with connected(ottla_broker, LATE_MAX) as wires:
        have_no_room(monkeypatch)
        requests = [(one, to_all(b"a", b"no room", b"c")) for one in wires]
        answers = [told(answer) for answer in at_one_moment(ottla_broker, requests)]
        monkeypatch.undo()
    refused = (ErrorCode.KAFKA_STORAGE_ERROR, -1)
    assert sorted(answers) == [
        [(0, offset), refused, (0, offset)] for offset in range(LATE_MAX, 2 * LATE_MAX)
    ]
    assert produce(wire, "t", batch(b"d"), partition=1).base_offset == LATE_MAX
    assert b"no room" not in everything(wire)[1]


def test_who_hangs_up_amid_a_moment_costs_the_others_nothing(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t", PARTITIONS)
    with connected(ottla_broker, LATE_MAX) as (gone, *others):
        moment = Moment(ottla_broker)
        with one_moment(ottla_broker):
            gone.send(to_all(b"gone", b"gone", b"gone"), VERSION)
            gone.socket.close()
        moment.send([(one, to_all(b"a", b"b", b"c")) for one in others])
        for answer in moment.answers():
            assert [code for code, _ in told(answer)] == [0] * PARTITIONS
        wait_until(lambda: all(b"gone" in records for records in everything(wire)))
