"""Faults of all kinds, in an order that a seed decides, some of them while the last one is not over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.bounces import (
    BOUNCES,
    SEED,
    VICTIMS,
    cut_from_others,
    cut_from_zookeeper,
    expire,
    kill,
    kill_and_start_at_once,
    pause,
    terminate,
    zookeeper_kill,
    zookeeper_pause,
)
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop

OF_A_BROKER: list[Callable[[Trial, int], None]] = [
    kill,
    kill_and_start_at_once,
    terminate,
    pause,
    expire,
    cut_from_zookeeper,
    cut_from_others,
]
OF_ZOOKEEPER: list[Callable[[Trial], None]] = [zookeeper_kill, zookeeper_pause]
UNFINISHED = 0.5
"""How often the next fault comes before the cluster is whole again."""


@pytest.mark.parametrize("durability", ["disk", "os"])
def test_no_mix_of_faults_breaks_what_clients_rely_on(
    durability: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    settings = {"durability": durability}
    with (
        ClusterProcesses(tmp_path, ensemble, settings, proxied=True) as cluster,
        Trial(cluster, SEED) as trial,
    ):
        trial.begin()
        for _ in range(BOUNCES):
            if trial.random.random() < 0.2:
                trial.random.choice(OF_ZOOKEEPER)(trial)
            else:
                who = trial.random.choice(list(VICTIMS))
                trial.random.choice(OF_A_BROKER)(trial, VICTIMS[who](trial))
            if trial.random.random() > UNFINISHED:
                trial.await_progress()
                cluster.wait_until_whole()
        trial.finish()
