"""Fetch: what a consumer sees, when it is made to wait, and what a session spares it."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.broker.handlers.fetch import ParkedFetch
from ottla.errors import ErrorCode
from ottla.messages.delete_topics import DeleteTopicsRequest
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.records.batch import iter_batches
from ottla.testing import Broker
from tests.support.requests import (
    create_topic,
    fetch,
    fetch_request,
    list_offset,
    produce,
    produce_request,
)
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch


def offsets_in(records: Any) -> list[int]:
    return [header.base_offset for _, header in iter_batches(bytes(records))]


def test_reading_goes_on_from_any_offset_with_the_batch_that_holds_it(wire: Wire) -> None:
    create_topic(wire, "t")
    for _ in range(5):
        produce(wire, "t", batch(b"a", b"b", b"c"))
    for offset in range(15):
        found = offsets_in(fetch(wire, "t", offset).records)
        assert found == list(range(offset // 3 * 3, 15, 3))
    assert offsets_in(fetch(wire, "t", 15).records) == []


def test_an_offset_outside_the_log_is_out_of_range(wire: Wire) -> None:
    create_topic(wire, "t")
    produce(wire, "t", batch(b"a"))
    assert fetch(wire, "t", 2).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert fetch(wire, "t", -1).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert fetch(wire, "t", 1).error_code == 0


def test_the_first_batch_comes_whole_however_small_the_limit(wire: Wire) -> None:
    create_topic(wire, "t")
    produce(wire, "t", batch(bytes(1000)))
    produce(wire, "t", batch(bytes(1000)))
    records = fetch(wire, "t", 0, max_bytes=10).records
    assert offsets_in(records) == [0]
    assert len(records) > 1000


def test_a_waiting_fetch_is_answered_by_the_next_append(ottla_broker: Broker, wire: Wire) -> None:
    create_topic(wire, "t")
    request = fetch_request("t", 0, max_wait_ms=20_000)
    number = wire.send(request, 12)
    with Wire(ottla_broker.bootstrap) as other:
        produce(other, "t", batch(b"news"))
    partition = wire.receive(request, 12, number).responses[0].partitions[0]
    assert offsets_in(partition.records) == [0]


def test_a_waiting_fetch_gathers_min_bytes_first(ottla_broker: Broker, wire: Wire) -> None:
    create_topic(wire, "t", partitions=2)
    request = fetch_request("t", 0, 0, max_wait_ms=20_000, min_bytes=500)
    number = wire.send(request, 12)
    with Wire(ottla_broker.bootstrap) as other:
        for partition in (0, 1, 0, 1):
            produce(other, "t", batch(bytes(100)), partition=partition)
    answer = wire.receive(request, 12, number)
    found = [offsets_in(partition.records) for partition in answer.responses[0].partitions]
    assert sum(len(partition.records) for partition in answer.responses[0].partitions) >= 500
    assert sorted(map(len, found)) in ([1, 2], [2, 2])


def test_a_fetch_that_waits_long_enough_is_answered_with_nothing(wire: Wire) -> None:
    create_topic(wire, "t")
    partition = fetch(wire, "t", 0, max_wait_ms=50)
    assert (partition.error_code, bytes(partition.records)) == (0, b"")


def test_an_error_in_one_partition_is_told_at_once(wire: Wire) -> None:
    create_topic(wire, "t", partitions=2)
    request = fetch_request("t", 0, 7, max_wait_ms=3_600_000)
    partitions = wire.ask(request, 12).responses[0].partitions
    assert [p.error_code for p in partitions] == [0, ErrorCode.OFFSET_OUT_OF_RANGE]


def test_an_unknown_partition_alone_is_told_at_once_and_beside_others_waits_for_them(
    ottla_broker: Broker, wire: Wire
) -> None:
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert fetch(wire, "none", max_wait_ms=3_600_000).error_code == unknown
    create_topic(wire, "t")
    request = fetch_request("t", 0, 0, max_wait_ms=3_600_000)
    number = wire.send(request, 12)
    server = ottla_broker.server
    assert server is not None
    wait_until(lambda: len(server.parked_fetches) == 1)
    with Wire(ottla_broker.bootstrap) as other:
        produce(other, "t", batch(b"x"))
    partitions = wire.receive(request, 12, number).responses[0].partitions
    assert [(p.error_code, offsets_in(p.records)) for p in partitions] == [
        (0, [0]),
        (unknown, []),
    ]


def test_a_deleted_topic_wakes_who_waits_for_it(ottla_broker: Broker, wire: Wire) -> None:
    create_topic(wire, "t")
    request = fetch_request("t", 0, max_wait_ms=3_600_000)
    number = wire.send(request, 12)
    with Wire(ottla_broker.bootstrap) as other:
        answer = other.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=9000), 5)
        assert answer.responses[0].error_code == 0
    partition = wire.receive(request, 12, number).responses[0].partitions[0]
    assert partition.error_code in (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
    )


def test_a_topic_made_again_is_another_topic(wire: Wire) -> None:
    old_id = create_topic(wire, "t")
    produce(wire, "t", batch(b"old"))
    wire.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=9000), 5)
    new_id = create_topic(wire, "t")
    assert new_id != old_id
    produce(wire, "t", batch(b"new"))
    assert b"old" not in bytes(fetch(wire, "t").records)
    assert list_offset(wire, "t", -1).offset == 1
    request = MetadataRequest(topics=[MetadataRequestTopic(topic_id=old_id)])
    assert wire.ask(request, 12).topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID
    by_id = fetch_request("t", 0)
    by_id.topics[0].topic_id = old_id
    partition = wire.ask(by_id, 13).responses[0].partitions[0]
    assert partition.error_code == ErrorCode.UNKNOWN_TOPIC_ID


def session_fetch(wire: Wire, session: int, epoch: int, *offsets: int, wait: int = 0) -> Any:
    request = fetch_request(
        "t", *offsets, session_id=session, session_epoch=epoch, max_wait_ms=wait
    )
    return wire.ask(request, 12)


def test_a_session_tells_only_what_changed(wire: Wire) -> None:
    create_topic(wire, "t", partitions=3)
    first = session_fetch(wire, 0, 0, 0, 0, 0)
    assert len(first.responses[0].partitions) == 3
    session = first.session_id
    assert session_fetch(wire, session, 1).responses == []
    produce(wire, "t", batch(b"x"), partition=1)
    second = session_fetch(wire, session, 2)
    assert [p.partition_index for p in second.responses[0].partitions] == [1]
    # The client has not said that it went on: what was sent is sent again.
    again = session_fetch(wire, session, 3)
    assert [p.partition_index for p in again.responses[0].partitions] == [1]
    moved = fetch_request("t", session_id=session, session_epoch=4)
    moved.topics = fetch_request("t", 0, 1).topics
    moved.topics[0].partitions = moved.topics[0].partitions[1:]
    assert wire.ask(moved, 12).responses == []
    assert session_fetch(wire, session, 9).error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH


def test_a_waiting_session_is_woken_by_any_of_its_partitions(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t", partitions=3)
    session = session_fetch(wire, 0, 0, 0, 0, 0).session_id
    request = fetch_request("t", session_id=session, session_epoch=1, max_wait_ms=20_000)
    number = wire.send(request, 12)
    with Wire(ottla_broker.bootstrap) as other:
        produce(other, "t", batch(b"x"), partition=2)
    answer = wire.receive(request, 12, number)
    assert [p.partition_index for p in answer.responses[0].partitions] == [2]


def test_epochs_of_the_past_and_the_future_are_refused(wire: Wire) -> None:
    create_topic(wire, "t")
    produce(wire, "t", batch(b"x"))
    ahead = fetch(wire, "t", 0, current_leader_epoch=5)
    assert ahead.error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    assert fetch(wire, "t", 0, current_leader_epoch=0).error_code == 0


def test_a_client_whose_log_diverges_is_told_where(wire: Wire) -> None:
    create_topic(wire, "t")
    produce(wire, "t", batch(b"x"))
    assert fetch(wire, "t", 1, last_fetched_epoch=0).diverging_epoch is None
    unknown = fetch(wire, "t", 1, last_fetched_epoch=7)
    assert unknown.error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_nobody_who_hangs_up_while_waiting_is_kept(ottla_broker: Broker, wire: Wire) -> None:
    create_topic(wire, "t")
    server = ottla_broker.server
    assert server is not None
    with Wire(ottla_broker.bootstrap) as other:
        other.send(fetch_request("t", 0, max_wait_ms=3_600_000), 12)
        wait_until(lambda: len(server.parked_fetches) == 1)
    wait_until(lambda: not server.parked_fetches)
    partition = server.replicas.leader_of("t", 0)
    wait_until(lambda: not partition._readers)


@pytest.mark.ottla({"log.segment.bytes": 4096})
def test_reading_crosses_segments(wire: Wire) -> None:
    create_topic(wire, "t")
    for i in range(30):
        produce(wire, "t", batch(bytes(500), b"%d" % i))
    seen: list[int] = []
    position = 0
    while position < 60:
        found = offsets_in(fetch(wire, "t", position, max_bytes=3000).records)
        assert found
        seen += [offset for offset in found if offset >= position]
        position = found[-1] + 2
    assert seen == list(range(0, 60, 2))


def test_large_reads_are_whole(wire: Wire) -> None:
    create_topic(wire, "t", max_message_bytes=2_000_000)
    value = bytes(range(256)) * 3900
    for _ in range(5):
        assert produce(wire, "t", batch(value)).error_code == 0
    records = bytes(fetch(wire, "t", 0, max_bytes=50_000_000).records)
    assert offsets_in(records) == [0, 1, 2, 3, 4]
    assert records.count(value) == 5


def test_list_offsets_finds_times_and_ends(wire: Wire) -> None:
    create_topic(wire, "t")
    for _ in range(3):
        produce(wire, "t", batch(b"a", b"b"))
    start = 1_700_000_000_000
    assert list_offset(wire, "t", -2).offset == 0
    assert list_offset(wire, "t", -1).offset == 6
    assert list_offset(wire, "t", start).offset == 0
    assert list_offset(wire, "t", start + 1).offset == 1
    assert list_offset(wire, "t", start + 2).offset == -1
    largest = list_offset(wire, "t", -3)
    assert (largest.offset, largest.timestamp) == (1, start + 1)
    assert list_offset(wire, "t", -9).error_code == ErrorCode.UNSUPPORTED_VERSION
    assert list_offset(wire, "none", -1).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_nothing_of_a_batch_is_seen_twice_by_two_readers(wire: Wire) -> None:
    create_topic(wire, "t")
    request = produce_request("t", batch(b"a"))
    numbers = [wire.send(request, 9) for _ in range(50)]
    for number in numbers:
        wire.receive(request, 9, number)
    once, twice = fetch(wire, "t").records, fetch(wire, "t").records
    assert bytes(once) == bytes(twice)
    assert offsets_in(once) == list(range(50))


def test_a_session_that_is_left_behind_costs_its_partition_nothing(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t")
    server = ottla_broker.server
    assert server is not None
    partition = server.replicas.leader_of("t", 0)
    for _ in range(5):
        session = session_fetch(wire, 0, 0, 0).session_id
        session_fetch(wire, session, 1)
    assert len(partition._readers) == 5
    produce(wire, "t", batch(b"x"))
    assert not partition._readers
    assert len(session_fetch(wire, session, 2).responses) == 1


def test_a_session_that_another_connection_closes_leaves_no_reader(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t")
    server = ottla_broker.server
    assert server is not None
    session = session_fetch(wire, 0, 0, 0).session_id
    request = fetch_request("t", session_id=session, session_epoch=1, max_wait_ms=500)
    number = wire.send(request, 12)
    wait_until(lambda: server.parked_fetches)
    with Wire(ottla_broker.bootstrap) as other:
        session_fetch(other, session, -1, 0)
    assert wire.receive(request, 12, number).error_code == 0
    wait_until(lambda: not server.parked_fetches)
    assert not server.replicas.leader_of("t", 0)._readers
    assert len(server.fetch_sessions) == 0


def many(topic: str, offset: int, count: int, **options: Any) -> FetchRequest:
    """A Fetch of partition 0 of ``topic`` and of thousands that are not there."""
    request: FetchRequest = fetch_request(topic, offset, **options)
    absent = [FetchPartition(partition=n, partition_max_bytes=1) for n in range(count)]
    request.topics.append(FetchTopic(topic="absent", partitions=absent))
    return request


def test_a_fetch_of_thousands_of_partitions_tells_of_each(wire: Wire) -> None:
    create_topic(wire, "t")
    produce(wire, "t", batch(b"x"))
    found, absent = wire.ask(many("t", 0, 3000), 12).responses
    assert offsets_in(found.partitions[0].records) == [0]
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert [(p.partition_index, p.error_code) for p in absent.partitions] == [
        (n, unknown) for n in range(3000)
    ]


def test_what_is_appended_behind_the_reading_of_a_large_fetch_is_seen_before_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = ParkedFetch._read_partition
    appended: list[bool] = []

    def read_and_append(self: ParkedFetch, key: Any, position: Any, *rest: Any) -> Any:
        found = read(self, key, position, *rest)
        if position.topic == "absent" and not appended:
            appended.append(True)
            # The first partition has been read; what comes now must not wait for the next append.
            server = broker.server
            assert server is not None
            server.replicas.leader_of("t", 0).append_as_leader(
                memoryview(bytearray(batch(b"x"))), server.clock.now_ms(), required_acks=1
            )
        return found

    monkeypatch.setattr(ParkedFetch, "_read_partition", read_and_append)
    request = many("t", 0, 500, max_wait_ms=3_600_000)
    with Broker({"durability": "os"}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        found = wire.ask(request, 12).responses[0].partitions[0]
    assert appended
    assert offsets_in(found.records) == [0]
