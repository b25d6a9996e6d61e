"""Small Produce requests of one producer that come together are handled as a run; a broker, from outside."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from ottla.broker.handlers.produce_run import ProduceRun
from ottla.errors import ErrorCode
from ottla.log.disk import Disk
from ottla.testing import Broker
from tests.broker.test_metrics import http_of
from tests.broker.test_pipelined_produce import Train, have_no_room, outcome
from tests.support.http import metrics, value
from tests.support.requests import create_topic, fetch, fetch_request, produce, produce_request
from tests.support.wire import Wire, batch


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each run took; no turn ends before its read is handled, however slow the machine."""
    monkeypatch.setattr("ottla.network.turns.TURN_S", 60.0)
    monkeypatch.setattr("ottla.network.turns.SHARED_TURN_S", 60.0)
    counts: list[int] = []
    settle = ProduceRun.settle

    def counted(run: ProduceRun) -> Any:
        counts.append(run.count)
        return settle(run)

    monkeypatch.setattr(ProduceRun, "settle", counted)
    return counts


@pytest.mark.parametrize("acks", [1, -1])
def test_requests_of_a_run_that_find_no_room_are_all_refused_and_leave_nothing(
    ottla_broker: Broker,
    wire: Wire,
    runs: list[int],
    monkeypatch: pytest.MonkeyPatch,
    acks: int,
) -> None:
    create_topic(wire, "t")
    assert produce(wire, "t", batch(b"first"), acks=acks).base_offset == 0
    have_no_room(monkeypatch)
    with Wire(ottla_broker.bootstrap) as other:
        train = Train(other)
        for number in range(6):
            train.add(produce_request("t", batch(b"no room %d" % number), acks=acks), 9)
        answers = train.answers()
        assert {outcome(answer) for answer in answers} == {(ErrorCode.KAFKA_STORAGE_ERROR, -1)}
    assert runs == [5]
    monkeypatch.undo()
    assert produce(wire, "t", batch(b"second")).base_offset == 1
    records = bytes(fetch(wire, "t").records)
    assert b"no room" not in records
    assert b"second" in records


@pytest.mark.parametrize("durability", ["os", "disk"])
@pytest.mark.parametrize("acks", [1, -1])
def test_only_those_are_told_that_a_write_failed_whose_records_are_not_in_the_log(
    runs: list[int], monkeypatch: pytest.MonkeyPatch, acks: int, durability: str
) -> None:
    pwrite = Disk.pwrite

    def full(descriptor: int, data: Any, position: int) -> int:
        if b"record 09" in bytes(data) or b"record 15" in bytes(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, position)

    monkeypatch.setattr(Disk, "pwrite", staticmethod(full))
    with Broker({"durability": durability}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t", segment_bytes=2000)  # a roll writes what there is before it
        train = Train(wire)
        values = [b"record %02d" % number for number in range(20)]
        for value_ in values:
            train.add(produce_request("t", batch(value_ + bytes(200)), acks=acks), 9)
        told = [outcome(answer) for answer in train.answers()]
        assert produce(wire, "t", batch(b"last")).error_code == 0  # behind it all is committed
        records = bytes(fetch(wire, "t").records)
    there = [value_ in records for value_ in values]
    assert [code == 0 for code, _ in told] == there
    assert set(there[:9]) == {True, False}  # one write before it, and one that failed
    assert [offset for code, offset in told if code == 0] == list(range(there.count(True)))
    assert runs


def test_a_run_ends_where_another_partition_or_request_comes_and_order_is_kept(
    ottla_broker: Broker, wire: Wire, runs: list[int]
) -> None:
    create_topic(wire, "t", 2)
    train = Train(wire)
    for partition in (0, 0, 0, 1, 1, 0):
        train.add(produce_request("t", batch(b"value"), acks=1, partition=partition), 9)
    train.add(fetch_request("t", 0), 12)
    for _ in range(3):
        train.add(produce_request("t", batch(b"value"), acks=1), 9)
    *before, fetched, first, second, third = train.answers()
    assert [outcome(answer) for answer in before] == [(0, n) for n in (0, 1, 2, 0, 1, 3)]
    assert fetched.responses[0].partitions[0].high_watermark == 4
    assert [outcome(answer) for answer in (first, second, third)] == [(0, 4), (0, 5), (0, 6)]
    assert runs[0] == 2
    assert max(runs) == 2


@pytest.mark.ottla({"http.listener": "127.0.0.1:0"})
def test_requests_of_a_run_are_counted_one_by_one(ottla_broker: Broker, runs: list[int]) -> None:
    with Wire(ottla_broker.bootstrap) as wire:
        create_topic(wire, "t", max_message_bytes=200)
        train = Train(wire)
        for number in range(9):
            size = 300 if number == 4 else 3
            train.add(produce_request("t", batch(b"v" * size), acks=1), 9)
        codes = [outcome(answer)[0] for answer in train.answers()]
    assert codes.count(ErrorCode.MESSAGE_TOO_LARGE) == 1
    assert sum(runs) == 8
    now = metrics(http_of(ottla_broker))
    name = "kafka_network_requestmetrics"
    assert value(now, f"{name}_requests_total", request="Produce") == 9
    assert value(now, f"{name}_totaltime_seconds_bucket", request="Produce", le="+Inf") == 9
    assert value(now, f"{name}_errors_total", request="Produce", error="MESSAGE_TOO_LARGE") == 1
