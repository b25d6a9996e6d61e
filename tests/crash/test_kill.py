"""kill -9 at any moment, again and again, while producers, groups and topic makers go on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.ordeal import PLACES, TOPIC, Ordeal
from tests.crash.process import segment_count
from tests.interop.requirements import require_module

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
KILLS = int(os.environ.get("OTTLA_TEST_KILLS", "50"))
RECOVERED_TWICE_EVERY = 5
READ_FROM_THE_START_EVERY = 10

MOMENTS = {
    "at some time": 18,
    "while a segment rolls": 12,
    "while a topic is made": 10,
    "while it starts": 6,
    "while it stops": 4,
}


@pytest.fixture
def ordeal(tmp_path: Path) -> Iterator[Ordeal]:
    """A broker under load, which is not left running."""
    require_module("confluent_kafka", "confluent-kafka")
    started = Ordeal(tmp_path, SEED)
    try:
        yield started
    finally:
        started.give_up()


@pytest.mark.interop
def test_nothing_promised_is_lost_and_nothing_doubled_by_kills_at_any_moment(
    ordeal: Ordeal,
) -> None:
    moments = ordeal.random.choices(list(MOMENTS), list(MOMENTS.values()), k=KILLS)
    ordeal.begin()
    for number, moment in enumerate(moments, 1):
        where = f"kill {number} of {KILLS}, {moment}, OTTLA_TEST_SEED={SEED}, {ordeal.directory}"
        ordeal.await_moment(moment)
        ordeal.broker.kill()
        if ordeal.random.random() < 0.4:
            ordeal.tear_a_tail()
        recovered = ordeal.check_recovery() if number % RECOVERED_TWICE_EVERY == 0 else {}
        ordeal.restart()
        faults = ordeal.check(from_start=number % READ_FROM_THE_START_EVERY == 0)
        assert not faults, (where, faults)
        for name, held in recovered.items():
            if name.startswith(f"{TOPIC}-") and name.endswith(".log"):
                assert (ordeal.data / name).read_bytes().startswith(held), (where, name)
        ordeal.await_progress()
    ordeal.end()
    faults = ordeal.check(from_start=True)
    faults += ordeal.history.missing(PLACES) if not faults else []
    assert not faults, (SEED, faults)
    print(
        f"{KILLS} kills ({dict(Counter(moments))}), {ordeal.torn} torn tails, "
        f"{ordeal.history.acknowledged_count()} records acknowledged, "
        f"{ordeal.commits.offsets.acknowledged} commits, {segment_count(ordeal.data, TOPIC)} segments, "
        f"interrupted: {dict(ordeal.interrupted)}"
    )
    if KILLS >= 50:
        for what in ("produce", "commit", "create a topic"):
            assert ordeal.interrupted[what], f"no kill interrupted: {what}"
    ordeal.broker.signal(signal.SIGTERM)
    assert ordeal.broker.wait() == 0
