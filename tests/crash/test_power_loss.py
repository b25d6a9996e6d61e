"""The power goes at any moment: what was acknowledged is on the disk.

The broker's data lies on a file system that stops writing all at once (``volume``); then the process is
killed, the file system mounted again, and a new broker started on what is left. The clients go on through
all of it. ``OTTLA_TEST_SEED=n`` chooses other moments, ``OTTLA_TEST_ROUNDS=n`` more or fewer of them.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash.ordeal import PLACES, TOPIC, Ordeal
from tests.crash.process import segment_count
from tests.crash.volume import Volume, freeze, require_volumes
from tests.interop.requirements import require_module

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
ROUNDS = int(os.environ.get("OTTLA_TEST_ROUNDS", "50"))
RECOVERED_TWICE_EVERY = 10
READ_FROM_THE_START_EVERY = 10
UNSAFE_ROUNDS_MAX = 5

MOMENTS = {
    "at some time": 14,
    "while a segment rolls": 10,
    "while a checkpoint is renamed": 10,
    "while a topic is made": 10,
    "while it starts": 4,
    "while it stops": 2,
}


@contextmanager
def ordeal_on(volume: Volume, directory: Path, durability: str) -> Iterator[Ordeal]:
    """A broker under load, its data on ``volume``; not left running."""
    ordeal = Ordeal(directory, SEED, data=volume.path / "data", settings={"durability": durability})
    try:
        yield ordeal
    finally:
        ordeal.give_up()


def lose_power(ordeal: Ordeal, volume: Volume, moment: str) -> None:
    """Cut it at such a moment, and come up again without a broker."""
    ordeal.await_moment(moment)
    if ordeal.random.random() < 0.3:
        volume.write_back_some(ordeal.random)
    meets_the_dead_disk = ordeal.random.random() < 0.3
    freeze(ordeal.broker, amid_syncs=not meets_the_dead_disk)
    volume.lose_power()
    if meets_the_dead_disk:
        ordeal.broker.signal(signal.SIGCONT)
        ordeal.spin(ordeal.random.uniform(0.0, 0.03))
    ordeal.broker.kill()
    volume.power_on()


@pytest.mark.interop
def test_nothing_acknowledged_is_lost_when_the_power_goes_at_any_moment(tmp_path: Path) -> None:
    require_volumes()
    require_module("confluent_kafka", "confluent-kafka")
    with Volume(tmp_path, 512) as volume, ordeal_on(volume, tmp_path, "disk") as ordeal:
        moments = ordeal.random.choices(list(MOMENTS), list(MOMENTS.values()), k=ROUNDS)
        ordeal.begin()
        for number, moment in enumerate(moments, 1):
            where = f"power loss {number} of {ROUNDS}, {moment}, OTTLA_TEST_SEED={SEED}, {tmp_path}"
            lose_power(ordeal, volume, moment)
            if number % RECOVERED_TWICE_EVERY == 0:
                ordeal.check_recovery()
            ordeal.restart()
            faults = ordeal.check(from_start=number % READ_FROM_THE_START_EVERY == 0)
            assert not faults, (where, faults)
            ordeal.await_progress()
        ordeal.end()
        faults = ordeal.check(from_start=True)
        faults += ordeal.history.missing(PLACES) if not faults else []
        assert not faults, (SEED, faults)
        print(
            f"{ROUNDS} power losses ({dict(Counter(moments))}), OTTLA_TEST_SEED={SEED}, "
            f"{ordeal.history.acknowledged_count()} records acknowledged, "
            f"{ordeal.commits.offsets.acknowledged} commits, "
            f"{ordeal.altered.values.acknowledged} settings, "
            f"{segment_count(ordeal.data, TOPIC)} segments, "
            f"interrupted: {dict(ordeal.interrupted)}"
        )


@pytest.mark.interop
def test_the_same_check_finds_what_is_lost_where_nothing_is_synced(tmp_path: Path) -> None:
    require_volumes()
    require_module("confluent_kafka", "confluent-kafka")
    with Volume(tmp_path, 512) as volume, ordeal_on(volume, tmp_path, "os") as ordeal:
        ordeal.begin()
        lost: list[str] = []
        faults: list[str] = []
        rounds = 0
        while not lost and rounds < UNSAFE_ROUNDS_MAX:
            rounds += 1
            lose_power(ordeal, volume, "at some time")
            ordeal.restart()
            faults = ordeal.check(from_start=True)
            lost = [fault for fault in faults if fault.startswith("lost: ")]
        assert lost, (SEED, faults)
        print(
            f"durability=os, OTTLA_TEST_SEED={SEED}, {rounds} power losses: "
            f"{len(lost)} told, the first: {lost[0]}"
        )
