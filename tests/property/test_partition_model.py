"""A partition and its log directory through crashes, power losses, full disks, deletions and restarts.

Checked after every step, as a consumer and a curious administrator see it (the numbers are those of
``docs/invariants.md``): an offset has one value for all time (2); nothing is seen at or past the high watermark
(5), and nothing seen, or acknowledged, is taken back; log start ≤ last stable offset ≤ high watermark ≤ log end
(6); the log start never goes back (7); offsets are dense and batches contiguous (8); leader epochs never
decrease (9).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from errno import ENOSPC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.errors import KafkaError
from ottla.log.directory import LogDirectory
from ottla.log.flusher import Durability, Flusher
from ottla.log.log import Log
from ottla.records.batch import iter_batches
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.replication.gathering import Gathering
from ottla.replication.partition import Partition
from ottla.replication.recompression import Unpacking
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk

NOW_MS = 1_700_000_000_000
TOPIC_ID = bytes(range(16))
CONFIG = TopicConfig.of(
    segment_bytes=300, index_interval_bytes=100, retention_bytes=400, file_delete_delay_ms=0
)

ACTION = st.one_of(
    *[st.tuples(st.just("append"), st.integers(1, 3))] * 3,
    st.tuples(st.just("fail_to_append"), st.booleans()),
    st.tuples(st.just("gather"), st.integers(1, 2), st.booleans()),
    *[st.tuples(st.just("flush"))] * 2,
    st.tuples(st.just("overlap")),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("retain")),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("lead_again")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("lose_power"), st.integers(0, 10**6)),
)


class HeldFlusher(Flusher):
    """Syncs nothing by itself."""

    def request(self, log: Log, *, alone: bool = False) -> None:
        pass


class World:
    """One broker's disk, the partition that is on it, and what was seen of it."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk()
        self.epoch = 0
        self.number = 0
        self.values: dict[int, bytes] = {}
        self.high_watermark = self.log_start = 0
        self.start()

    def start(self) -> None:
        self.directory = LogDirectory("/logs", self.disk)
        self.directory.open()
        self.directory.load(lambda topic: CONFIG, NOW_MS)
        assert not self.directory.quarantined
        log = self.directory.get("t", 0)
        if log is None:
            log = self.directory.create("t", 0, TOPIC_ID, CONFIG, NOW_MS)
        self.partition = Partition(
            "t",
            TOPIC_ID,
            0,
            log,
            node_id=1,
            flusher=HeldFlusher(self.disk, durability=Durability.DISK),
            unpacking=Unpacking(),
        )
        self.lead_again()

    @property
    def log(self) -> Log:
        return self.partition.log

    def batch(self, count: int) -> memoryview:
        values = []
        for _ in range(count):
            self.number += 1
            values.append(b"%d " % self.number * 9)
        content = build_batch([(NOW_MS, b"k", value, []) for value in values])
        return memoryview(bytearray(content))

    def append(self, count: int) -> None:
        end_offset = self.log.log_end_offset
        info: Any = self.partition.append_as_leader(self.batch(count), NOW_MS, required_acks=-1)
        assert (info.base_offset, info.last_offset) == (end_offset, end_offset + count - 1)

    def fail_to_append(self, amid: bool) -> None:
        """The disk is full: before the first byte of what is written, or amid the batch."""
        end_offset = self.log.log_end_offset
        records = self.batch(2)
        active = self.log.segments.active
        rolls = active.should_roll(len(records), NOW_MS, end_offset + 1, NOW_MS)
        if amid and self.log.is_on_disk and not rolls:
            self.disk.write_short(20)
            self.disk.fail("pwrite", ENOSPC, after=1)
        else:
            self.disk.fail("pwrite", ENOSPC)
        with pytest.raises(KafkaError):
            self.partition.append_as_leader(records, NOW_MS, required_acks=-1)
        self.disk.heal()
        assert self.log.log_end_offset == end_offset

    def gather(self, requests: int, is_full: bool) -> None:
        """Produce requests of one read, written together; perhaps there is no room for them."""
        self.append(1)  # what makes the directory, or rolls, writes by itself
        gathering = Gathering()
        end_offset = self.log.log_end_offset
        records = [self.batch(1) for _ in range(requests)]
        size = sum(len(one) for one in records)
        if self.log.segments.active.should_roll(size, NOW_MS, end_offset + requests, NOW_MS):
            self.log.roll(NOW_MS)
        if is_full:
            self.disk.fail("pwrite", ENOSPC, path=".log")
        for one in records:
            self.partition.append_as_leader(one, NOW_MS, required_acks=-1, gathering=gathering)
        undone = self.log.undone
        gathering.settle(NOW_MS)
        self.disk.heal()
        assert self.log.log_end_offset == end_offset + (0 if is_full else requests)
        assert (self.log.undone != undone) == is_full, "who appended is told"

    def flush(self) -> None:
        self.log.flush(NOW_MS)
        assert self.partition.high_watermark == self.log.log_end_offset

    def overlap(self) -> None:
        """Records come while others are synced."""
        self.append(1)
        flush = self.log.begin_flush()
        assert flush is not None
        end_offset = self.log.log_end_offset
        self.append(2)
        flush.run()
        self.log.complete_flush(flush, NOW_MS)
        assert self.partition.high_watermark == end_offset

    def delete(self, back: int) -> None:
        """DeleteRecords: promised, written down, done."""
        offset = self.partition.deletable_to(max(self.partition.high_watermark - back, 0))
        self.directory.promise_log_start(self.log, offset)
        self.directory.write_log_starts(self.directory.log_starts())
        assert self.partition.delete_records(offset, NOW_MS) >= offset

    def retain(self) -> None:
        offset = self.partition.start_after_retention(NOW_MS)
        if offset is not None:
            self.directory.promise_log_start(self.log, offset)
            self.directory.write_log_starts(self.directory.log_starts())
            self.partition.apply_retention(NOW_MS, offset)

    def checkpoint(self) -> None:
        self.directory.write_checkpoints(self.directory.take_checkpoints())
        self.directory.remove_trash(self.directory.trash.take_due(NOW_MS))

    def lead_again(self) -> None:
        self.epoch += 1
        self.partition.become_leader(self.epoch, 0, [1], [1])

    def stop(self) -> None:
        self.directory.close(NOW_MS)
        self.disk.restart()
        self.start()

    def crash(self) -> None:
        self.disk.restart()
        self.start()

    def lose_power(self, seed: int) -> None:
        self.disk.lose_power(seed if seed % 4 else None)
        self.start()

    def check(self) -> None:
        partition, log = self.partition, self.log
        marks = (
            log.log_start_offset,
            partition.last_stable_offset,
            partition.high_watermark,
            log.log_end_offset,
        )
        assert list(marks) == sorted(marks), "6"
        assert log.log_start_offset >= self.log_start, "7"
        assert partition.high_watermark >= self.high_watermark, "what was committed is gone"
        self.log_start, self.high_watermark = log.log_start_offset, partition.high_watermark
        self._read()
        self._look_at_batches()

    def _read(self) -> None:
        """Read everything, as a consumer from the log's start does."""
        position = self.log_start
        while position < self.high_watermark:
            read = self.partition.read(position, 300, at_least_one=True)
            content = b"".join(region.read() for region in read.regions)
            for region in read.regions:
                region.close()
            before = position
            for at, header in iter_batches(content):
                for record in decode_batch(content, position=at):
                    if record.offset < position:
                        continue
                    assert record.offset == position, "8"
                    assert record.offset < self.high_watermark, "5"
                    value = self.values.setdefault(record.offset, record.value or b"")
                    assert record.value == value, "2"
                    position = record.offset + 1
                assert header.next_offset <= self.high_watermark, "5"
            assert position > before, "committed records cannot be read"
        read = self.partition.read(self.high_watermark, 1 << 20, at_least_one=True)
        assert not read.regions, "5"

    def _look_at_batches(self) -> None:
        offset, epoch = self.log.segments.first.base_offset, -1
        for segment in self.log.segments:
            for _, header in segment.headers():
                assert header.base_offset == offset, "8"
                assert header.leader_epoch >= epoch, "9"
                assert (
                    header.leader_epoch
                    == self.log.epochs.epoch_for(max(header.base_offset, self.log_start))
                    or header.last_offset < self.log_start
                ), "9"
                offset, epoch = header.next_offset, header.leader_epoch
        assert offset == self.log.log_end_offset, "8"


def check_play(actions: Iterable[Any]) -> None:
    world = World()
    for name, *arguments in actions:
        getattr(world, name)(*arguments)
        world.check()


@settings(max_examples=100)
@given(st.lists(ACTION, min_size=1, max_size=40))
def test_no_mix_of_faults_breaks_what_consumers_rely_on(actions: list[Any]) -> None:
    check_play(actions)


@pytest.mark.parametrize("seed", range(6))
def test_no_long_walk_breaks_what_consumers_rely_on(seed: int) -> None:
    """For what short lists do not reach: segments that fill up, and go."""
    choose = random.Random(seed)
    kinds = [*["append"] * 12, *["flush"] * 3, *["delete"] * 2, *["lose_power"] * 2]
    kinds += [
        "fail_to_append",
        "gather",
        "overlap",
        "retain",
        "checkpoint",
        "lead_again",
        "stop",
        "crash",
    ]

    def step() -> tuple[Any, ...]:
        match kind := choose.choice(kinds):
            case "append":
                return kind, choose.randint(1, 3)
            case "fail_to_append":
                return kind, choose.random() < 0.5
            case "gather":
                return kind, choose.randint(1, 2), choose.random() < 0.5
            case "delete":
                return kind, choose.randint(0, 12)
            case "lose_power":
                return kind, choose.randrange(10**6)
        return (kind,)

    check_play(step() for _ in range(150))
