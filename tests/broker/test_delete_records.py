"""DeleteRecords: a log starts later, for everybody and for good."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.log.checkpoints import encode_partition_metadata
from ottla.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.testing import Broker
from tests.crash.process import BrokerProcess
from tests.support.requests import create_topic, fetch, fetch_request, list_offset, produce
from tests.support.waiting import eventually, wait_until
from tests.support.wire import Wire, batch

EARLIEST = -2
ALL = -1


def delete_records(wire: Wire, topic: str, *offsets: int) -> Any:
    """DeleteRecords before these offsets of partitions 0, 1, ...; the answer to partition 0."""
    return delete_many(wire, topic, dict(enumerate(offsets)))[0]


def delete_many(wire: Wire, topic: str, offsets: dict[int, int]) -> list[Any]:
    partitions = [
        DeleteRecordsPartition(partition_index=index, offset=offset)
        for index, offset in offsets.items()
    ]
    request = DeleteRecordsRequest(
        topics=[DeleteRecordsTopic(name=topic, partitions=partitions)], timeout_ms=5000
    )
    return list(wire.ask(request, 2).topics[0].partitions)


def filled(wire: Wire, records: int = 5, **settings: object) -> None:
    """Topic "a" with so many records, a batch each."""
    create_topic(wire, "a", **settings)
    for number in range(records):
        assert produce(wire, "a", batch(b"%d" % number)).error_code == 0


def test_the_log_starts_later_and_never_earlier_again(wire: Wire) -> None:
    filled(wire)
    for offset, start in ((3, 3), (1, 3), (3, 3), (ALL, 5), (0, 5)):
        answer = delete_records(wire, "a", offset)
        assert (answer.error_code, answer.low_watermark) == (0, start)
        assert list_offset(wire, "a", EARLIEST).offset == start
    assert fetch(wire, "a", 4).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert produce(wire, "a", batch(b"next")).base_offset == 5
    assert b"next" in bytes(fetch(wire, "a", 5).records)


@pytest.mark.parametrize("offset", [6, 2**62, -2, -(2**62)])
def test_an_offset_that_is_not_committed_is_out_of_range(wire: Wire, offset: int) -> None:
    filled(wire)
    answer = delete_records(wire, "a", offset)
    assert (answer.error_code, answer.low_watermark) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
    assert list_offset(wire, "a", EARLIEST).offset == 0


def test_a_topic_that_is_only_compacted_keeps_its_records(wire: Wire) -> None:
    create_topic(wire, "a", cleanup_policy="compact")
    assert delete_records(wire, "a", 0).error_code == ErrorCode.POLICY_VIOLATION
    create_topic(wire, "b", cleanup_policy="compact,delete")
    assert delete_records(wire, "b", 0).error_code == 0


def test_records_of_an_internal_topic_stay(wire: Wire) -> None:
    assert wire.ask(FindCoordinatorRequest(key="g"), 3).error_code == 0
    answer = delete_records(wire, "__consumer_offsets", ALL)
    assert answer.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_each_partition_has_its_own_answer(wire: Wire) -> None:
    create_topic(wire, "a", 2)
    assert produce(wire, "a", batch(b"x"), partition=1).error_code == 0
    found = delete_many(wire, "a", {0: 1, 1: 1, 2: 0})
    assert [(p.partition_index, p.error_code, p.low_watermark) for p in found] == [
        (0, ErrorCode.OFFSET_OUT_OF_RANGE, -1),
        (1, 0, 1),
        (2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
    ]


def test_a_fetch_that_waits_below_the_new_start_is_told(ottla_broker: Broker, wire: Wire) -> None:
    filled(wire)
    with Wire(ottla_broker.bootstrap) as reader:
        waiting = fetch_request("a", 2, max_wait_ms=20_000, min_bytes=1 << 20)
        number = reader.send(waiting, 12)
        assert list_offset(wire, "a", EARLIEST).offset == 0
        assert delete_records(wire, "a", 3).low_watermark == 3
        (found,) = reader.receive(waiting, 12, number).responses[0].partitions
        assert found.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert found.log_start_offset == -1


def test_segments_below_the_new_start_leave_the_disk(tmp_path: Path) -> None:
    settings = {"log.segment.bytes": 1 << 20, "log.segment.delete.delay.ms": 0}
    with Broker(settings, data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "a", segment_bytes=1 << 20)
        for _ in range(5):
            assert produce(wire, "a", batch(bytes(700_000))).error_code == 0

        def segments() -> list[str]:
            return sorted(path.name for path in (tmp_path / "a-0").glob("*.log*"))

        assert len(segments()) == 5
        assert delete_records(wire, "a", 3).error_code == 0
        wait_until(lambda: segments() == ["0" * 19 + "3.log", "0" * 19 + "4.log"])


def test_a_killed_broker_comes_back_with_the_start_that_was_told(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", tmp_path / "printed", {})
    broker.start()
    try:
        broker.wait_until_ready()
        with Wire(broker.bootstrap) as wire:
            filled(wire)
            assert delete_records(wire, "a", 3).low_watermark == 3
            broker.signal(signal.SIGKILL)
            broker.wait()
        broker.start()
        broker.wait_until_ready()
        with Wire(broker.bootstrap) as wire:
            assert list_offset(wire, "a", EARLIEST).offset == 3
            assert fetch(wire, "a", 2).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
            assert b"3" in bytes(fetch(wire, "a", 3).records)
    finally:
        broker.signal(signal.SIGKILL)
        broker.wait()


def test_a_topic_made_again_after_its_end_keeps_its_records_over_a_kill(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", tmp_path / "printed", {})
    broker.start()
    try:
        broker.wait_until_ready()
        with Wire(broker.bootstrap) as wire:
            filled(wire)
            assert delete_records(wire, "a", ALL).low_watermark == 5
            request = DeleteTopicsRequest(
                topics=[DeleteTopicState(name="a")], topic_names=["a"], timeout_ms=9000
            )
            assert wire.ask(request, 6).responses[0].error_code == 0
            filled(wire, 2)
            broker.signal(signal.SIGKILL)
            broker.wait()
        broker.start()
        broker.wait_until_ready()
        with Wire(broker.bootstrap) as wire:
            assert list_offset(wire, "a", EARLIEST).offset == 0
            assert list_offset(wire, "a", -1).offset == 2
    finally:
        broker.signal(signal.SIGKILL)
        broker.wait()


def test_a_start_that_retention_moves_is_on_disk_before_it_is_seen(tmp_path: Path) -> None:
    """Invariant 7: a loss of power may bring the deleted segments back, but not their records."""
    settings = {"log.retention.check.interval.ms": 20, "log.initial.task.delay.ms": 0}
    with Broker(settings, data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "a", segment_bytes=1 << 20)
        for _ in range(4):  # of the year 2023: past their retention
            assert produce(wire, "a", batch(bytes(700_000))).error_code == 0

        seen = eventually(lambda: list_offset(wire, "a", EARLIEST).offset, "the first deletion")
        checkpoint = (tmp_path / "log-start-offset-checkpoint").read_text().splitlines()
        kept = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in checkpoint[2:]}
        assert kept["a 0"] >= seen


def test_the_log_of_another_topic_of_that_name_leaves_no_start_behind(tmp_path: Path) -> None:
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        filled(wire)
        assert delete_records(wire, "a", 3).low_watermark == 3
    checkpoint = tmp_path / "log-start-offset-checkpoint"
    assert "a 0 3" in checkpoint.read_text()
    (tmp_path / "a-0" / "partition.metadata").write_bytes(
        encode_partition_metadata(bytes(15) + b"x")
    )
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        assert list_offset(wire, "a", EARLIEST).offset == 0
        assert "a 0" not in checkpoint.read_text()
    assert list(tmp_path.glob("a-0.*-stray"))
