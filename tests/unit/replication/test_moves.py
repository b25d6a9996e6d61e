"""A replica that moves between log directories loses nothing, whatever stops it and whenever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from errno import EIO, ENOSPC
from typing import Any, cast

import pytest

from ottla.clock import ManualClock
from ottla.errors import ErrorCode, KafkaError
from ottla.log.directories import LogDirectories
from ottla.log.directory import LogDirectory
from ottla.log.flusher import Flusher
from ottla.log.loading import mark_quarantined
from ottla.log.log import Log
from ottla.records.codec import Record
from ottla.replication import moves as moves_module
from ottla.replication.moves import ReplicaMoves
from ottla.replication.partition import Partition
from ottla.replication.recompression import Unpacking
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk, Stopped
from tests.unit.log.samples import NOW_MS, TOPIC_ID, all_records, batch, idempotent

CONFIG = TopicConfig.of(segment_bytes=900, index_interval_bytes=100, file_delete_delay_ms=0)
PATHS = ("/a", "/b", "/c")
SEEDS = (None, 0, 1)


run = asyncio.run


class FlusherHere:
    """Flushes here and now, as the real one does in its threads."""

    def attach(self, log: Log) -> None:
        log.on_flush_wanted = None

    def appended(self, log: Log, *, alone: bool = False) -> None:
        pass

    def acknowledged_end_offset(self, log: Log) -> int:
        return log.flushed_end_offset

    async def flush(self, log: Log) -> None:
        log.flush(NOW_MS)


class World:
    """Three log directories, and one partition that somebody appends to whenever the mover turns away."""

    def __init__(self, disk: SimulatedDisk | None = None) -> None:
        self.disk = disk or SimulatedDisk()
        self.clock = ManualClock(NOW_MS)
        self.directories = LogDirectories(PATHS, self.disk)
        self.directories.open()
        self.directories.load(lambda topic: CONFIG, NOW_MS)
        self.flusher = FlusherHere()
        self.turns = 0
        self.sequence = 100
        self.between: Callable[[World], None] = lambda world: None
        self.moves = ReplicaMoves(
            self.directories,
            self.flusher.flush,
            clock=self.clock,
            bytes_per_second=lambda: 1 << 60,
            off_loop=self.off_loop,
        )

    def lead(self, log: Log) -> Partition:
        partition = Partition(
            "orders",
            TOPIC_ID,
            0,
            log,
            node_id=1,
            flusher=cast(Flusher, self.flusher),
            unpacking=Unpacking(),
        )
        partition.become_leader(5, 0, [1], [1])
        return partition

    def new_partition(self) -> Partition:
        log = self.directories.all[0].create("orders", 0, TOPIC_ID, CONFIG, NOW_MS)
        self.partition = partition = self.lead(log)
        for number in range(12):
            self.append(size=60 + number)
        self.append_idempotent()
        log.increment_log_start_offset(2, log.log_end_offset)
        log.flush(NOW_MS)
        directory = self.directories.all[0]
        directory.write_checkpoints(directory.take_checkpoints())
        return partition

    async def off_loop(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self.turns += 1
        self.between(self)
        return call(*arguments)

    def append(self, **options: Any) -> None:
        self.partition.append_as_leader(memoryview(batch(**options)), NOW_MS, required_acks=1)

    def append_idempotent(self) -> None:
        records = idempotent(7, self.sequence, epoch=3)
        self.partition.append_as_leader(memoryview(records), NOW_MS, required_acks=1)
        self.sequence += 1

    def write(self) -> None:
        """What clients do meanwhile: append, every other time until it is committed."""
        self.append_idempotent()
        if self.turns % 2:
            self.partition.log.flush(NOW_MS)

    async def move(self, to: int = 1) -> None:
        self.moves.start(self.partition, self.directories.all[to])
        move = self.moves._moves.get(("orders", 0))
        if move is not None and move.task is not None:
            await move.task

    @property
    def place(self) -> str:
        return self.partition.log.health.path

    def names(self, path: str) -> set[str]:
        return {entry.name for entry in self.disk.entries(path) if entry.is_directory}


def test_everything_is_there_after_a_move_under_appends() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        old = partition.log
        world.between = World.write
        await world.move()
        new = partition.log
        assert (world.place, new.directory) == ("/b", "/b/orders-0")
        assert new.log_start_offset == 2
        assert [r.offset for r in all_records(new)] == list(range(2, new.log_end_offset))
        assert new.log_end_offset > 20
        assert len(new.segments) > 3
        assert new.epochs.entries == old.epochs.entries
        assert new.producers.producers[7].last_sequence == world.sequence - 1
        assert world.names("/a") == {n for n in world.names("/a") if n.endswith("-delete")}
        assert world.names("/b") == {"orders-0"}
        assert "/b/orders-0/moved" not in world.disk.tree()
        assert old.unusable is not None
        assert world.directories.get("orders", 0) is new
        assert not len(world.moves)
        # Reading by time, appending and rolling go on in the new files.
        assert new.max_timestamp_offset() is not None
        for _ in range(20):
            world.append(size=100)
        new.flush(NOW_MS)
        assert partition.high_watermark == new.log_end_offset
        world.directories.close(NOW_MS)
        again = World(world.disk)
        log = again.directories.get("orders", 0)
        assert log is not None
        assert log.health.path == "/b"
        assert all_records(log) == all_records_of(world)

    def all_records_of(world: World) -> list[Record]:
        other = LogDirectories(PATHS, world.disk)
        for directory in other.all:
            directory.load(lambda topic: CONFIG, NOW_MS)
        log = other.get("orders", 0)
        assert log is not None
        return all_records(log)

    run(scene())


def test_an_empty_partition_moves_too_and_is_found_there_again() -> None:
    async def scene() -> None:
        world = World()
        log = world.directories.all[0].create("orders", 0, TOPIC_ID, CONFIG, NOW_MS)
        world.partition = world.lead(log)
        await world.move()
        assert world.place == "/b"
        world.append()
        world.directories.close(NOW_MS)
        again = World(world.disk).directories.get("orders", 0)
        assert again is not None
        assert (again.health.path, again.log_end_offset) == ("/b", 1)

    run(scene())


def crashes(between: Callable[[World], None]) -> Iterator[tuple[int, World, int, int]]:
    """Moves that were stopped at each of their calls: the world, and what was committed, and appended."""
    calls = 0
    while True:
        world = World()

        async def scene(world: World = world, calls: int = calls) -> None:
            world.new_partition()
            world.between = between
            world.disk.stop_after(calls)
            await world.move()

        try:
            run(scene())
        except Stopped:
            partition = world.partition
            yield calls, world, partition.high_watermark, partition.log.log_end_offset
        else:
            return
        calls += 1


def recovered(crashed: World, calls: int, kept_offset: int) -> None:
    """The next life has all below ``kept_offset``, goes on with the move, and has it still."""

    async def scene() -> None:
        world = World(crashed.disk)
        log = world.directories.get("orders", 0)
        assert log is not None, f"stopped after {calls} calls"
        records = all_records(log)
        assert [r.offset for r in records] == list(range(2, log.log_end_offset))
        assert log.log_end_offset >= kept_offset, f"stopped after {calls} calls"
        assert log.log_start_offset == 2
        entry = log.producers.producers[7]
        idempotent_records = sum(1 for r in records if r.offset >= 12)
        assert entry.last_sequence == 99 + idempotent_records
        world.partition = world.lead(log)
        left = world.directories.moves_left.pop(("orders", 0), None)
        if left is not None:
            assert left.path == "/b"
            assert log.health.path == "/a"
        world.sequence = entry.last_sequence + 1
        world.append_idempotent()
        await world.move()
        assert world.place == "/b"
        assert all_records(world.partition.log)[: len(records)] == records
        for directory in world.directories.all:
            directory.trash.remove(directory.trash.take_due(NOW_MS + 1))
        assert (world.names("/a"), world.names("/b")) == (set(), {"orders-0"})

    run(scene())


def test_an_empty_partition_survives_a_crash_at_any_call_of_its_move() -> None:
    calls = 0
    while True:
        world = World()

        async def scene(world: World = world, calls: int = calls) -> None:
            log = world.directories.all[0].create("orders", 0, TOPIC_ID, CONFIG, NOW_MS)
            world.partition = world.lead(log)
            world.disk.stop_after(calls)
            await world.move()

        try:
            run(scene())
        except Stopped:
            calls += 1
        else:
            break
        for after in (world.disk.restart, world.disk.lose_power):
            after()
            again = LogDirectories(PATHS, world.disk)
            again.open()
            again.load(lambda topic: CONFIG, NOW_MS)
            log = again.get("orders", 0)
            if log is None:
                log = again.create("orders", 0, TOPIC_ID, CONFIG, NOW_MS, is_new=False)
            assert log.log_end_offset == 0
            again.close(NOW_MS, clean=False)
    assert calls > 15


def test_a_partition_that_a_crash_left_marked_moves_on_through_any_crash() -> None:
    """Back to where it came from, too: of two marked directories nobody would know the right one."""
    calls = 0
    while True:
        world = World()

        async def scene(world: World = world, calls: int = calls) -> None:
            world.new_partition()
            await world.move(1)
            world.disk.write_file("/b/orders-0/moved", b"/a/orders-0\n", sync=True)
            world.disk.sync_directory("/b/orders-0")
            world.between = World.write
            world.disk.stop_after(calls)
            await world.move(0)

        try:
            run(scene())
        except Stopped:
            calls += 1
        else:
            break
        end_offset = world.partition.log.log_end_offset
        world.disk.restart()
        log = World(world.disk).directories.get("orders", 0)
        assert log is not None
        assert log.log_end_offset >= end_offset
    assert calls > 60


@pytest.mark.parametrize("seed", SEEDS)
def test_power_loss_at_any_call_of_a_move_loses_nothing_that_was_committed(
    seed: int | None,
) -> None:
    count = 0
    for calls, world, committed, _ in crashes(World.write):
        world.disk.lose_power(seed)
        recovered(world, calls, committed)
        count += 1
    assert count > 60


def test_end_of_the_process_at_any_call_of_a_move_loses_nothing_that_was_appended() -> None:
    continued = doubled = 0
    for calls, world, _, appended in crashes(World.write):
        world.disk.restart()
        continued += any(name.endswith("-future") for name in world.names("/b"))
        doubled += "orders-0" in world.names("/a") & world.names("/b")
        # The call that was cut short may have been an append, which nobody was answered.
        recovered(world, calls, appended)
    assert continued > 20
    assert doubled > 3, "both directories have the partition's name for a while"


def test_checks_find_a_move_that_does_not_sync_what_it_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planted bug: the copies are never synced, so that some power loss takes them."""
    monkeypatch.setattr(SimulatedDisk, "_do_fdatasync", lambda self, descriptor: None)

    def is_found(seed: int) -> bool:
        for calls, world, committed, _ in crashes(World.write):
            world.disk.lose_power(seed)
            try:
                recovered(world, calls, committed)
            except (AssertionError, KafkaError, KeyError):
                return True
        return False

    assert any(is_found(seed) for seed in range(4))


# Ended, turned, repeated


def test_a_second_request_for_the_same_directory_changes_nothing() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        first: list[object] = []

        def again(world: World) -> None:
            first.append(world.moves._moves["orders", 0])
            world.moves.start(partition, world.directories.all[1])

        world.between = again
        await world.move()
        assert world.place == "/b"
        assert all(move is first[0] for move in first)

    run(scene())


async def redirected(turn: int, to: int) -> World:
    """A move to /b under appends, and at a turn a request for another directory; all is over."""
    world = World()
    partition = world.new_partition()

    def redirect(world: World) -> None:
        world.write()
        if world.turns == turn:
            world.moves.start(partition, world.directories.all[to])

    world.between = redirect
    await world.move()
    while world.moves._tasks:
        await asyncio.wait(tuple(world.moves._tasks))
    assert world.place == (PATHS[to] if world.turns >= turn else "/b")
    return world


@pytest.mark.parametrize("turn", range(1, 40, 2))
def test_a_request_for_another_directory_turns_the_move_there(turn: int) -> None:
    world = run(redirected(turn, to=2))
    log = world.partition.log
    assert [record.offset for record in all_records(log)] == list(range(2, log.log_end_offset))
    assert {n for path in PATHS for n in world.names(path) if not n.endswith("-delete")} == {
        "orders-0"
    }


@pytest.mark.parametrize("turn", range(1, 40, 3))
def test_a_request_for_where_it_lies_ends_the_move(turn: int) -> None:
    world = run(redirected(turn, to=0))
    assert world.partition.log.log_end_offset == world.sequence - 100 + 12
    assert not [n for n in world.names("/b") if n.endswith("-future")]


def test_a_deleted_partition_is_gone_from_both_directories() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        world.moves.start(partition, world.directories.all[1])
        move = world.moves._moves["orders", 0]

        def end(world: World) -> None:
            if world.turns == 4:
                move.ended.set()

        world.between = end
        assert move.task is not None
        await move.task
        await world.moves.end("orders", 0)
        world.directories.delete("orders", 0, NOW_MS)
        assert all(n.endswith("-delete") for path in PATHS for n in world.names(path))

    run(scene())


# Disks that fail


def test_a_destination_that_fails_goes_offline_and_the_partition_stays() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        world.disk.fail("pwrite", EIO, path="-future")
        await world.move()
        assert world.directories.all[1].offline is not None
        assert world.place == "/a"
        world.append_idempotent()
        partition.log.flush(NOW_MS)
        assert partition.high_watermark == partition.log.log_end_offset

    run(scene())


def test_a_source_that_cannot_be_read_goes_offline_and_the_copy_is_kept() -> None:
    async def scene() -> None:
        world = World()
        world.new_partition()
        world.disk.fail("pread", EIO, path="/a/orders-0", after=3)
        await world.move()
        assert world.directories.all[0].offline is not None
        assert world.directories.all[1].offline is None
        (left,) = world.names("/b")
        assert left.endswith("-future")
        with pytest.raises(KafkaError) as refused:
            world.directories.create("orders", 0, TOPIC_ID, CONFIG, NOW_MS, is_new=False)
        assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
        # Left out of log.dirs, the lost directory does not make an empty partition of it.
        world.disk.restart()
        without = LogDirectories(PATHS[1:], world.disk)
        without.open()
        without.load(lambda topic: CONFIG, NOW_MS)
        with pytest.raises(KafkaError, match="unfinished copy"):
            without.create("orders", 0, TOPIC_ID, CONFIG, NOW_MS, is_new=False)
        other_topic = bytes(16)[:-1] + b"x"
        assert without.create("orders", 0, other_topic, CONFIG, NOW_MS).log_end_offset == 0

    run(scene())


FIRST = "orders-0/00000000000000000000.log"


@pytest.mark.parametrize(
    ("position", "why"), [(70, "wrong checksum"), (7, "have no place"), (9, "byte 0")]
)
def test_a_bit_that_has_changed_does_not_travel(position: int, why: str) -> None:
    """In what the checksum covers, and in the offset and the size, which it does not."""

    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        file = world.disk.file(f"/a/{FIRST}")
        file.write_at(bytes([world.disk.tree()[f"/a/{FIRST}"][position] ^ 0x20]), position)
        await world.move()
        assert partition.log.is_quarantined
        assert why in (partition.log.unusable or "")
        assert world.place == "/a"
        assert "damaged" in world.disk.tree()["/a/orders-0/quarantined"].decode()
        assert all(name.endswith("-delete") for name in world.names("/b"))

    run(scene())


def test_a_bit_that_changes_in_the_end_of_the_log_does_not_travel() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        planted: list[int] = []

        def damage(world: World) -> None:
            active = partition.log.segments.active
            if not planted and active.base_offset == partition.log.log_end_offset:
                world.append_idempotent()
                active.log_file.write_at(b"\xff", 70)
                planted.append(active.base_offset)

        world.between = damage
        await world.move()
        assert planted
        assert partition.log.is_quarantined
        assert world.place == "/a"

    run(scene())


def test_a_copy_that_is_not_what_was_copied_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr(moves_module, "RETRY_S", 0.0)
        world = World()
        partition = world.new_partition()
        damaged: list[str] = []

        def damage(world: World) -> None:
            tree = world.disk.tree()
            copies = [path for path in tree if "-future/" in path and path.endswith("0.log")]
            if not damaged and copies and len(tree[copies[0]]) > 70:
                damaged.extend(copies)
                world.disk.file(copies[0]).write_at(b"\xff", 70)

        world.between = damage
        await world.move()
        assert damaged
        assert world.place == "/b"
        assert partition.log.unusable is None
        assert len(all_records(partition.log)) == 11

    run(scene())


def test_segments_of_another_message_format_stay_where_they_are() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        world.disk.file(f"/a/{FIRST}").write_at(b"\x01", 16)
        await world.move()
        assert partition.log.unusable is None
        assert world.place == "/a"
        assert all(name.endswith("-delete") for name in world.names("/b"))

    run(scene())


@pytest.mark.parametrize("missing", [0, 1])
def test_neither_half_of_a_move_is_led_while_the_other_is_offline(missing: int) -> None:
    """After a crash at any call: what is led has all that was appended, or the partition is offline."""
    offline = 0
    for _, world, _, appended in crashes(World.write):
        world.disk.restart()
        path = PATHS[missing]
        other_half = any("orders-0" in name for name in world.names(path))
        world.disk.fail("entries", EIO, path=path)
        directories = LogDirectories(PATHS, world.disk)
        directories.open()
        directories.load(lambda topic: CONFIG, NOW_MS)
        assert directories.all[missing].offline is not None
        log = directories.get("orders", 0)
        if log is None:
            offline += 1
            assert other_half
            with pytest.raises(KafkaError):
                directories.create("orders", 0, TOPIC_ID, CONFIG, NOW_MS, is_new=False)
        else:
            assert log.log_end_offset >= appended
        directories.close(NOW_MS, clean=False)
    assert offline > 3


def test_a_lack_of_room_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr(moves_module, "RETRY_S", 0.0)
        world = World()
        partition = world.new_partition()
        world.disk.fail("pwrite", ENOSPC, path="-future", times=3)
        await world.move()
        assert world.place == "/b"
        assert all(directory.offline is None for directory in world.directories.all)
        assert partition.log.log_end_offset == 13
        assert world.names("/b") - {n for n in world.names("/b") if n.endswith("-delete")} == {
            "orders-0"
        }

    run(scene())


def test_the_rate_is_kept() -> None:
    async def scene() -> None:
        world = World()
        world.new_partition()
        world.moves._bytes_per_second = lambda: 1000
        waited: list[float] = []

        async def pause(move: object, seconds: float) -> bool:
            waited.append(seconds)
            world.clock.advance(int(seconds * 1000) + 1)
            return True

        world.moves._pause = pause  # type: ignore[method-assign, assignment]
        await world.move()
        assert world.place == "/b"
        copied = sum(s.size_bytes for s in list(world.partition.log.segments)[:-1])
        assert sum(waited) >= copied / 1000 * 0.9

    run(scene())


def test_nothing_is_compacted_meanwhile() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        seen: set[bool] = set()
        old = partition.log
        world.between = lambda world: seen.add(old.moving)
        await world.move()
        assert True in seen
        assert not partition.log.moving

    run(scene())


def test_a_log_start_that_moves_meanwhile_moves_with_it() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()

        def delete_records(world: World) -> None:
            log = partition.log
            if world.turns == 6:
                log.increment_log_start_offset(11, log.log_end_offset)
                log.delete_old_segments(NOW_MS, log.log_end_offset, by_policy=False)

        world.between = delete_records
        await world.move()
        assert world.place == "/b"
        assert partition.log.log_start_offset == 11
        assert [r.offset for r in all_records(partition.log)] == [11, 12]
        world.directories.close(NOW_MS)
        again = World(world.disk).directories.get("orders", 0)
        assert again is not None
        assert again.log_start_offset == 11

    run(scene())


def checkpointing(world: World) -> None:
    """The checkpoints of every directory are written, as from time to time."""
    for directory in world.directories:
        directory.write_checkpoints(directory.take_checkpoints())


def test_a_checkpoint_at_any_moment_of_a_move_takes_no_log_start_back() -> None:
    count = 0
    for calls, crashed, committed, _ in crashes(checkpointing):
        crashed.disk.lose_power()
        recovered(crashed, calls, committed)
        count += 1
    assert count > 60


def test_a_log_that_is_quarantined_at_the_end_of_its_move_is_not_served_from_the_copy() -> None:
    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        log = partition.log

        async def off_loop(call: Callable[..., Any], *arguments: Any) -> Any:
            outcome = call(*arguments)
            if call.__name__ == "publish":
                log.quarantine("somebody has looked")
                partition.storage_failed()
            return outcome

        world.moves._off_loop = off_loop
        await world.move()
        assert partition.log is log
        assert (world.names("/a"), len(world.moves)) == ({"orders-0"}, 0)
        world.directories.all[1].trash.remove(world.directories.all[1].trash.take_due(NOW_MS + 1))
        world.directories.close(NOW_MS)
        again = World(world.disk).directories
        assert again.get("orders", 0) is None
        assert again.all[0].quarantined["orders", 0].endswith("somebody has looked")

    run(scene())


def test_checkpoints_are_taken_on_the_loop_which_changes_what_they_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away: list[str] = []
    taken: list[bool] = []
    real = LogDirectory.take_checkpoints

    def take(self: LogDirectory) -> Any:
        taken.append(bool(away))
        return real(self)

    async def scene() -> None:
        world = World()
        world.new_partition()
        monkeypatch.setattr(LogDirectory, "take_checkpoints", take)

        async def off_loop(call: Callable[..., Any], *arguments: Any) -> Any:
            away.append(call.__name__)
            try:
                return call(*arguments)
            finally:
                away.pop()

        world.moves._off_loop = off_loop
        await world.move()
        assert world.place == "/b"

    run(scene())
    assert taken == [False, False]


@pytest.mark.parametrize("damaged", ["/a", "/b"])
def test_a_half_of_a_move_that_is_damaged_leaves_out_that_partition_only(damaged: str) -> None:
    for calls, crashed, *_ in crashes(World.write):
        crashed.disk.restart()
        if "orders-0" not in crashed.names("/a") & crashed.names("/b"):
            continue
        mark_quarantined(crashed.disk, f"{damaged}/orders-0", "damaged")
        directories = World(crashed.disk).directories
        assert directories.get("orders", 0) is None, f"stopped after {calls} calls"
        with pytest.raises(KafkaError):
            directories.create("orders", 0, TOPIC_ID, CONFIG, NOW_MS, is_new=False)
        directories.create("others", 0, TOPIC_ID, CONFIG, NOW_MS)
        directories.delete("orders", 0, NOW_MS)
        assert crashed.names("/a").isdisjoint({"orders-0"})
        assert crashed.names("/b").isdisjoint({"orders-0"})
        return
    pytest.fail("no crash left the partition in two directories")


@pytest.mark.parametrize("turn", range(1, 16))
def test_a_log_that_is_cut_meanwhile_moves_as_it_is_then(
    turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower's log, where it parts from its leader's."""
    monkeypatch.setattr(moves_module, "RETRY_CUT_S", 0.0)

    async def scene() -> None:
        world = World()
        partition = world.new_partition()
        partition.follow(2, 6, 1, [1, 2], [2])
        kept = [record for record in all_records(partition.log) if record.offset < 7]

        def cut(world: World) -> None:
            if world.turns == turn and world.partition.log.log_end_offset > 8:
                world.directories.directory_of(partition.log).lower_recovery_points(
                    {("orders", 0): 7}
                )
                partition.truncate_to(7, NOW_MS)
                partition.append_as_follower(
                    batch(2, base_offset=7, leader_epoch=6, size=33), NOW_MS
                )

        world.between = cut
        await world.move()
        assert world.place == "/b"
        log = partition.log
        assert turn > 6 or log.log_end_offset == 9
        if log.log_end_offset == 9:  # it was cut in time
            assert [r for r in all_records(log) if r.offset < 7] == kept
            assert [r.value for r in all_records(log) if r.offset >= 7] == [b"v" * 33] * 2
            assert log.epochs.entries[-1] == (6, 7)

    run(scene())
