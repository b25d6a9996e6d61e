"""The leader's rules: what consumers see, and which epoch is written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.handlers import list_offsets
from ottla.clock import ManualClock
from ottla.errors import ErrorCode, KafkaError
from ottla.log.directories import LogDirectories
from ottla.log.flusher import Durability, Flusher
from ottla.log.log import Log
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.replication.partition import Partition
from ottla.replication.recompression import Unpacking
from ottla.replication.replicas import Replicas
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import NOW_MS, TOPIC_ID, batch, disk, headers, new_log

LATEST, MAX_TIMESTAMP = -1, -3


class HeldFlusher(Flusher):
    """Syncs nothing by itself: a test flushes the log when its time has come."""

    def request(self, log: Log, *, alone: bool = False) -> None:
        pass


class Listener:
    """Waits for offsets to be committed."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def committed(self, token: object) -> None:
        self.told.append(token)

    def failed(self, token: object, code: ErrorCode) -> None:
        self.told.append((token, code))


def led(log: Log, durability: Durability = Durability.DISK) -> Partition:
    partition = Partition(
        "orders",
        TOPIC_ID,
        0,
        log,
        node_id=1,
        flusher=HeldFlusher(disk(), durability=durability),
        unpacking=Unpacking(),
    )
    partition.become_leader(5, 0, [1], [1])
    return partition


def append(to: Partition, count: int = 1, **options: Any) -> None:
    to.append_as_leader(memoryview(batch(count, **options)), NOW_MS, required_acks=-1)


def seen(by: Partition, start_offset: int = 0) -> list[int]:
    """The last offsets of the batches that a consumer gets."""
    return [h.last_offset for h in headers(by.read(start_offset, 1 << 20, at_least_one=True))]


def offset_at(
    of: Partition, timestamp_ms: int, *, version: int = 7, committed: bool = False
) -> Any:
    """The answer of ListOffsets."""
    wanted = ListOffsetsPartition(current_leader_epoch=-1, timestamp=timestamp_ms)
    topic = ListOffsetsTopic(name="orders", partitions=[wanted])
    body = ListOffsetsRequest(replica_id=-1, isolation_level=int(committed), topics=[topic])
    broker: Any = SimpleNamespace(
        replicas=SimpleNamespace(leader_of=lambda topic, index: of),
    )
    request: Any = SimpleNamespace(body=body, api_version=version)
    return list_offsets.handle(broker, request).topics[0].partitions[0]


def test_a_consumer_gets_nothing_at_or_past_the_high_watermark() -> None:
    partition = led(new_log(disk(), segment_bytes=250))
    append(partition, 2)
    assert (partition.high_watermark, seen(partition)) == (0, [])
    partition.log.flush(NOW_MS)
    append(partition, 3)
    append(partition)
    assert (partition.high_watermark, seen(partition)) == (2, [1])
    assert seen(partition, 2) == seen(partition, 3) == seen(partition, 6) == []
    partition.log.flush(NOW_MS)
    assert (partition.high_watermark, seen(partition)) == (6, [1, 4, 5])


def test_a_batch_is_seen_once_it_is_on_disk_or_written_as_durability_says() -> None:
    for durability, end_offset in ((Durability.DISK, 0), (Durability.OS, 2)):
        partition = led(new_log(disk()), durability)
        append(partition, 2)
        assert partition.high_watermark == end_offset
        waiting = Listener()
        is_committed = partition.when_committed(2, waiting, "first")
        assert is_committed == (durability is Durability.OS)
        partition.log.flush(NOW_MS)
        assert partition.high_watermark == 2
        assert waiting.told == ([] if is_committed else ["first"])


def test_what_is_appended_while_others_are_synced_is_not_seen_with_them() -> None:
    partition = led(new_log(disk()))
    append(partition, 2)
    flush = partition.log.begin_flush()
    assert flush is not None
    append(partition, 2)
    flush.run()
    partition.log.complete_flush(flush, NOW_MS)
    assert (partition.high_watermark, seen(partition)) == (2, [1])


@pytest.mark.parametrize("timestamp_ms", [LATEST, MAX_TIMESTAMP, NOW_MS + 2])
@pytest.mark.parametrize("committed", [False, True])
def test_no_offset_at_or_past_the_high_watermark_is_told(
    timestamp_ms: int, committed: bool
) -> None:
    partition = led(new_log(disk()))
    append(partition, 2)
    partition.log.flush(NOW_MS)
    append(partition, 2, timestamp_ms=NOW_MS + 5)
    answer = offset_at(partition, timestamp_ms, committed=committed)
    assert (answer.error_code, answer.offset) == (0, 2 if timestamp_ms == LATEST else -1)


@pytest.mark.parametrize(
    ("version", "code"),
    [(5, ErrorCode.OFFSET_NOT_AVAILABLE), (4, ErrorCode.LEADER_NOT_AVAILABLE)],
)
def test_a_leader_tells_no_latest_offset_before_it_has_reached_its_epochs_start(
    version: int, code: ErrorCode
) -> None:
    """KAFKA-2334 (KIP-207): else the latest offset would go back with the leader."""
    partition = led(new_log(disk()))
    append(partition, 2)
    partition.become_leader(6, 1, [1], [1])
    answer = offset_at(partition, LATEST, version=version)
    assert (answer.error_code, answer.offset) == (code, -1)
    partition.log.flush(NOW_MS)
    assert offset_at(partition, LATEST, version=version).offset == 2


def test_the_high_watermark_of_a_restarted_leader_is_not_before_the_logs_start() -> None:
    log = new_log(disk())
    append(led(log), 4)
    log.flush(NOW_MS)
    log.increment_log_start_offset(3, 4)
    log.flushed_end_offset = 0  # nothing of it is known to be on disk
    partition = led(log)
    assert partition.high_watermark == 3


def test_batches_carry_the_epoch_of_the_leadership_that_they_were_written_in() -> None:
    partition = led(new_log(disk()), Durability.OS)
    append(partition)
    partition.become_leader(9, 1, [1], [1])
    append(partition)
    epochs = [h.leader_epoch for h in headers(partition.read(0, 1 << 20, at_least_one=True))]
    assert epochs == [5, 9]
    assert partition.log.epochs.entries == [(5, 0), (9, 1)]


def test_an_order_of_an_earlier_epoch_changes_nothing() -> None:
    on = disk()
    directories = LogDirectories(["/logs"], on)
    directories.open()
    replicas = Replicas(
        directories,
        HeldFlusher(on, durability=Durability.OS),
        node_id=1,
        clock=ManualClock(NOW_MS),
        exists=lambda topic, index: True,
        config_of=lambda topic: TopicConfig.of(),
        **cast(Any, {"move_bytes_per_second": lambda: 0}),
    )

    def lead(epoch: int) -> ErrorCode:
        state = LeaderAndIsrPartitionState(leader=1, leader_epoch=epoch, replicas=[1], isr=[1])
        return replicas.lead("orders", TOPIC_ID, state)

    assert lead(5) is ErrorCode.NONE
    partition = replicas.leader_of("orders", 0)
    append(partition)
    assert lead(7) is ErrorCode.NONE
    append(partition)
    assert lead(6) is ErrorCode.STALE_BROKER_EPOCH
    append(partition)
    assert [h.leader_epoch for h in headers(partition.read(0, 1 << 20, at_least_one=True))] == [
        *(5, 7, 7)
    ]
    for believed, code in ((6, ErrorCode.FENCED_LEADER_EPOCH), (8, ErrorCode.UNKNOWN_LEADER_EPOCH)):
        with pytest.raises(KafkaError) as caught:
            partition.require_leader(believed)
        assert caught.value.code is code


def test_who_resigned_appends_and_tells_nothing() -> None:
    partition = led(new_log(disk()))
    waiting = Listener()
    append(partition, 2)
    assert not partition.when_committed(2, waiting, "first")
    partition.resign()
    partition.log.flush(NOW_MS)
    assert waiting.told == [("first", ErrorCode.NOT_LEADER_OR_FOLLOWER)]
    assert partition.high_watermark == 0
    with pytest.raises(KafkaError) as caught:
        append(partition)
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert partition.log.log_end_offset == 2
