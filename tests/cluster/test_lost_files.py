"""A broker comes back to a disk that is not as it left it: wiped, torn, without an index or a checkpoint."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, SEED, leader
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import TOPIC, Trial
from tests.crash.process import newest_segments
from tests.support.segment_files import without_room
from tests.support.waiting import eventually
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop

Spoil = Callable[[Path, random.Random], None]
CHECKPOINT = "replication-offset-checkpoint"


def wipe(data: Path, _: random.Random) -> None:
    """The whole disk is another, empty one."""
    shutil.rmtree(data)


def tear_tails(data: Path, chance: random.Random) -> None:
    """Every log ends in what a write leaves that was cut short."""
    for path in newest_segments(data, TOPIC):
        content = without_room(path.read_bytes())
        rubbish = [bytes(chance.randrange(1, 200)), chance.randbytes(100), content[-100:][:50]]
        with path.open("r+b") as file:
            file.seek(len(content))
            file.write(chance.choice(rubbish))


def lose_indexes(data: Path, chance: random.Random) -> None:
    """Indexes are gone, or hold rubbish."""
    for pattern in ("*.index", "*.timeindex"):
        for path in sorted(data.glob(f"{TOPIC}-*/{pattern}")):
            if chance.random() < 0.5:
                path.unlink()
            else:
                path.write_bytes(chance.randbytes(240))


def lose_checkpoints(data: Path, _: random.Random) -> None:
    """Nobody knows the high watermark (KAFKA-1647)."""
    (data / CHECKPOINT).unlink()


SPOILS: dict[str, Spoil] = {
    "wiped": wipe,
    "torn tails": tear_tails,
    "lost indexes": lose_indexes,
    "lost high watermarks": lose_checkpoints,
}


def test_a_replica_that_comes_back_with_less_than_it_had_is_made_whole(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()

        def await_checkpoint(node: int) -> None:
            """Who has just come back without one writes it a moment later."""
            path = cluster.brokers[node].data / CHECKPOINT
            eventually(path.exists, f"broker {node} has written its high watermarks")

        def spoil(how: str) -> None:
            victim = leader(trial)
            await_checkpoint(victim)
            trial.note(f"SIGKILL of broker {victim}, its disk {how}")
            cluster.kill_broker(victim)
            # As at its end, only sooner: what matters here is the disk.
            cluster.zookeeper.end_session_of_dead(victim)
            SPOILS[how](cluster.brokers[victim].data, trial.random)
            cluster.start_broker(victim)

        def lose_all_checkpoints(_: int) -> None:
            for node in cluster.brokers:
                await_checkpoint(node)
            trial.note("SIGKILL of all brokers, all high watermarks lost")
            for node in cluster.brokers:
                cluster.kill_broker(node)
            for broker in cluster.brokers.values():
                lose_checkpoints(broker.data, trial.random)
                broker.start()
            for broker in cluster.brokers.values():
                broker.wait_until_ready()

        spoils = [lambda _, how=how: spoil(how) for how in SPOILS]  # type: ignore[misc]
        trial.repeat(BOUNCES, *spoils, lose_all_checkpoints)
        trial.finish()
