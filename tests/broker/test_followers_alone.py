"""What each replica does by itself: compaction, and the expiry of producers."""

from __future__ import annotations

from pathlib import Path

from ottla.broker.broker import Broker as Server
from ottla.coordination.embedded import Keeper
from ottla.errors import ErrorCode
from ottla.log.log import Log
from ottla.records.builder import build_batch
from ottla.replication.partition import Partition
from tests.broker.test_compaction import COMPACTED_DEADLINE_S
from tests.broker.test_replication import Cluster, play
from tests.broker.test_several_brokers import run_with, until
from tests.unit.log.samples import NOW_MS, all_records, idempotent

COMPACTING = {
    "log_cleaner_backoff_ms": 20,
    "log_cleaner_min_cleanable_ratio": 0.01,
    "log_segment_bytes": 1024,
}


def newest(log: Log) -> dict[bytes | None, bytes | None]:
    """What the log says of each key."""
    return {
        record.key and bytes(record.key): record.value and bytes(record.value)
        for record in all_records(log)
    }


def is_clean(partition: Partition) -> bool:
    log = partition.log
    return log.clean_end_offset == log.segments.active.base_offset > 0


def test_replicas_compact_each_by_itself_and_say_the_same_of_every_key(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3], cleanup_policy="compact")
        written: dict[bytes | None, bytes | None] = {}

        async def write(numbers: range) -> None:
            for number in numbers:
                key, value = b"k%d" % (number % 5), b"%d " % number + b"v" * 80
                records = bytearray(build_batch([(NOW_MS, key, value, ())]))
                assert await cluster.produce(records=records) == 0
                written[key] = value

        await write(range(60))
        replicas = [cluster.at(2), cluster.at(3)]
        clean = "both are compacted"  # by workers, who let everybody else come first
        await until(lambda: all(map(is_clean, replicas)), clean, COMPACTED_DEADLINE_S)
        leader, follower = ({r.offset: r for r in all_records(p.log)} for p in replicas)
        assert max(len(leader), len(follower)) < 40, "60 were written"
        for offset in leader.keys() & follower.keys():
            ours, theirs = leader[offset], follower[offset]
            assert (ours.key, ours.value) == (theirs.key, theirs.value)
        assert newest(replicas[0].log) == newest(replicas[1].log) == written
        # The follower goes on copying behind what it has compacted, and leads with it.
        await write(range(60, 70))
        stopped = cluster.brokers.pop(2)
        await stopped.stop()
        await until(lambda: cluster.leader is replicas[1], "the other one leads")
        await write(range(70, 75))
        assert newest(replicas[1].log) == written

    async def run(keeper: Keeper, *brokers: Server) -> None:
        await test(Cluster(keeper, brokers))

    run_with(tmp_path, [1, 2, 3], run, **COMPACTING)


def test_a_producer_expires_in_every_replica_and_may_begin_anew_with_any_of_them(
    tmp_path: Path,
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        assert await cluster.produce(records=idempotent(7, 0)) == 0
        replicas = [cluster.at(2), cluster.at(3)]
        # The sample's records are of long ago: so long has the producer been silent.
        await until(
            lambda: all(not p.log.producers.producers for p in replicas), "both have forgotten it"
        )
        stopped = cluster.brokers.pop(2)
        await stopped.stop()
        await until(lambda: cluster.leader is replicas[1], "the other one leads")
        # A leader that has just begun has it come again once: what comes before may be on its way.
        answers = [await cluster.produce(records=idempotent(7, 5))]
        if answers == [ErrorCode.NOT_ENOUGH_REPLICAS]:
            answers = [await cluster.produce(records=idempotent(7, 5))]
        assert answers == [0]
        assert replicas[1].log.log_end_offset == 2

    play(tmp_path, test, producer_id_expiration_check_interval_ms=50)
