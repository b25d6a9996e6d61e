"""A follower whose files were damaged while it was away: it comes back with what its leader has, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ottla.broker.broker import Broker as Server
from ottla.errors import ErrorCode
from tests.broker.test_lost_records import start_again
from tests.broker.test_replication import Cluster, play
from tests.broker.test_several_brokers import until
from tests.support.segment_files import without_room


def torn_tail(data: Path) -> None:
    (data / ".kafka_cleanshutdown").unlink()
    segment = data / "orders-0" / f"{0:020}.log"
    content = segment.read_bytes()
    segment.write_bytes(content + content[: len(content) // 3] + bytes(50))


def cut_tail(data: Path) -> None:
    """The file system took back what was not synced."""
    (data / ".kafka_cleanshutdown").unlink()
    (data / "recovery-point-offset-checkpoint").unlink()
    segment = data / "orders-0" / f"{0:020}.log"
    segment.write_bytes(segment.read_bytes()[:-20])


def lost_indexes(data: Path) -> None:
    for path in (data / "orders-0").glob("*index"):
        path.unlink()


def lost_checkpoints(data: Path) -> None:
    (data / "replication-offset-checkpoint").unlink(missing_ok=True)
    (data / "orders-0" / "leader-epoch-checkpoint").unlink(missing_ok=True)


def wiped(data: Path) -> None:
    shutil.rmtree(data)


def bytes_of(broker: Server) -> bytes:
    (data,) = map(Path, broker.config.data_directories)
    paths = sorted((data / "orders-0").glob("*.log"))
    return b"".join(without_room(path.read_bytes()) for path in paths)


@pytest.mark.parametrize("damage", [torn_tail, cut_tail, lost_indexes, lost_checkpoints, wiped])
def test_a_damaged_follower_copies_what_it_lacks_and_joins_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        for _ in range(5):
            assert await cluster.produce(3) == 0
        stopped = cluster.brokers.pop(3)
        await stopped.stop()
        damage(tmp_path / "3")
        assert await cluster.produce(2) == 0
        again = await start_again(cluster, stopped)
        try:
            leader = cluster.at(2)
            await until(lambda: sorted(leader.isr) == [2, 3], "it joins")
            assert await cluster.produce(1) == 0
            assert cluster.at(3).log.log_end_offset == 18
            assert bytes_of(again) == bytes_of(cluster.brokers[2])
            assert cluster.at(3).log.epochs.entries == leader.log.epochs.entries
        finally:
            cluster.brokers.pop(3)
            await again.stop()

    play(tmp_path, test, durability="disk")


def test_a_follower_that_is_damaged_where_it_was_synced_is_served_and_counted_on_no_more(
    tmp_path: Path,
) -> None:
    """INVARIANTS 23."""

    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        for _ in range(5):
            assert await cluster.produce(3) == 0
        stopped = cluster.brokers.pop(3)
        await stopped.stop()
        data = tmp_path / "3"
        (data / ".kafka_cleanshutdown").unlink()
        segment = data / "orders-0" / f"{0:020}.log"
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(content)
        again = await start_again(cluster, stopped)
        try:
            await until(lambda: again.replicas.is_offline("orders", 0), "it is left out")
            await until(lambda: cluster.at(2).isr == [2], "it is not counted on")
            assert await cluster.produce(1) == 0
            assert again.replicas.get("orders", 0) is None
            state = again.metadata.topics["orders"].partitions[0]
            assert state.leader == 2
        finally:
            cluster.brokers.pop(3)
            await again.stop()

    play(tmp_path, test, durability="disk")


def test_a_follower_whose_log_directory_fails_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3], min_insync_replicas="1")
        assert await cluster.produce(3) == 0
        follower = cluster.at(3)
        follower.log.health.fail(OSError(5, "Input/output error"))
        await until(lambda: cluster.brokers[3].replicas.is_offline("orders", 0), "it is offline")
        fetchers = cluster.brokers[3].replicas.fetchers
        assert fetchers is not None
        assert fetchers.copy_of("orders", 0) is None
        assert await cluster.produce(2) == 0
        await until(lambda: cluster.at(2).isr == [2], "it leaves")
        assert cluster.at(2).high_watermark == 5

    play(tmp_path, test, replica_lag_time_max_ms=500)


def test_a_leader_that_moves_keeps_the_high_watermark_of_its_last_checkpoint(
    tmp_path: Path,
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        for _ in range(3):
            assert await cluster.produce(3) == 0
        follower = cluster.at(3)
        await until(lambda: follower.high_watermark == 9, "it knows what is committed")
        await cluster.brokers.pop(2).stop()
        await until(lambda: cluster.leader is not None, "another one leads")
        leader = cluster.leader
        assert leader is follower
        assert leader.high_watermark >= 9
        assert leader.deletable_to(9) == 9
        assert await cluster.produce(1) == ErrorCode.NONE

    play(tmp_path, test)
