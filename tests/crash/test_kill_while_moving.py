"""kill -9 while partitions move between log directories and producers and groups go on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.errors import ErrorCode
from ottla.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from tests.crash.ordeal import PARTITIONS, PLACES, TOPIC, Ordeal
from tests.interop.raw import RawClient
from tests.interop.requirements import require_module
from tests.support.waiting import wait_until

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
KILLS = int(os.environ.get("OTTLA_TEST_KILLS", "50")) // 3
OFFSETS = "__consumer_offsets"


@pytest.fixture
def directories(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in "abc"]


@pytest.fixture
def ordeal(tmp_path: Path, directories: list[Path]) -> Iterator[Ordeal]:
    """A broker with three log directories under load, which is not left running."""
    require_module("confluent_kafka", "confluent-kafka")
    started = Ordeal(tmp_path, SEED, data=Path(",".join(map(str, directories))))
    try:
        yield started
    finally:
        started.give_up()


def move_some(ordeal: Ordeal, directories: list[Path]) -> None:
    """Ask for every partition to lie in some directory."""
    dirs: dict[Path, dict[str, list[int]]] = {}
    for topic in (TOPIC, OFFSETS):
        for index in range(PARTITIONS):
            chosen = dirs.setdefault(ordeal.random.choice(directories), {})
            chosen.setdefault(topic, []).append(index)
    request = AlterReplicaLogDirsRequest(
        dirs=[
            AlterReplicaLogDir(
                path=str(path),
                topics=[AlterReplicaLogDirTopic(name=n, partitions=p) for n, p in topics.items()],
            )
            for path, topics in dirs.items()
        ]
    )
    with RawClient(ordeal.broker.bootstrap, "mover") as raw:
        answer = raw.call(request, 2)
    codes = {one.error_code for topic in answer.results for one in topic.partitions}
    assert codes <= {ErrorCode.NONE}


@pytest.mark.interop
def test_nothing_promised_is_lost_by_kills_amid_moves(
    ordeal: Ordeal, directories: list[Path]
) -> None:
    ordeal.begin()
    # The offsets' topic comes with the first commit, and only what is there can be moved.
    wait_until(lambda: ordeal.commits.offsets.acknowledged or ordeal.faults())
    found: Counter[str] = Counter()
    for number in range(1, KILLS + 1):
        where = f"kill {number} of {KILLS}, OTTLA_TEST_SEED={SEED}, {ordeal.directory}"
        move_some(ordeal, directories)
        ordeal.spin(ordeal.random.uniform(0.0, 0.12))
        ordeal.broker.kill()
        for name in {f"{TOPIC}-{index}" for index in range(PARTITIONS)}:
            copies = sum((directory / name).is_dir() for directory in directories)
            futures = [f for directory in directories for f in directory.glob(f"{name}.*-future")]
            found["doubled" if copies > 1 else "moving" if futures else "at rest"] += 1
        ordeal.restart()
        faults = ordeal.check(from_start=number % 5 == 0)
        assert not faults, (where, faults)
        ordeal.await_progress()
    ordeal.end()
    faults = ordeal.check(from_start=True)
    faults += ordeal.history.missing(PLACES) if not faults else []
    assert not faults, (SEED, faults)
    print(f"{KILLS} kills found {dict(found)}, {ordeal.history.acknowledged_count()} acknowledged")
    if KILLS >= 15:
        assert found["moving"] + found["doubled"], "no kill came amid a move"
    ordeal.broker.signal(signal.SIGTERM)
    assert ordeal.broker.wait() == 0
