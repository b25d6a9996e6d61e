"""A follower that does not keep up leaves the ISR, nobody waits for it then, and it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, SEED, follower
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop

SETTINGS = {"zookeeper.session.timeout.ms": 20_000, "replica.lag.time.max.ms": 1_500}
"""A broker that hangs for a while keeps its session, and lags."""


def test_a_slow_follower_leaves_the_isr_and_comes_back(ensemble: Ensemble, tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path, ensemble, SETTINGS) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()

        def slow(_: int) -> None:
            victim = follower(trial)
            place = next(p for p in trial.places if cluster.leader(*p) != victim)
            before = cluster.zookeeper.broker_epoch(victim)
            trial.note(f"SIGSTOP of broker {victim}")
            cluster.pause(victim)
            cluster.wait_until_isr(place, set(cluster.brokers) - {victim})
            trial.await_progress_of([p for p in trial.places if cluster.leader(*p) != victim])
            trial.note(f"SIGCONT of broker {victim}")
            cluster.resume(victim)
            cluster.wait_until_whole()
            assert cluster.zookeeper.broker_epoch(victim) == before, "its session was to outlive it"

        trial.repeat(BOUNCES, slow)
        trial.finish()
