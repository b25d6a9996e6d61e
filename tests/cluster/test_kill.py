"""SIGKILL of the leader, the controller, a follower, ZooKeeper's leader, again and again, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import (
    BOUNCES,
    SEED,
    kill,
    kill_and_start_at_once,
    leader,
    to_each,
    zookeeper_kill,
)
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


def test_nothing_acknowledged_is_lost_when_brokers_and_zookeepers_leader_are_killed(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(
            BOUNCES,
            *to_each(trial, kill),
            # Back before its death is noticed.
            *to_each(trial, kill_and_start_at_once, ["leader"]),
            lambda _: zookeeper_kill(trial),
        )
        trial.finish()


def test_replicas_that_acknowledge_without_the_disk_lose_nothing_to_killed_processes(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    settings = {"durability": "os"}
    with ClusterProcesses(tmp_path, ensemble, settings) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: kill(trial, leader(trial)))
        trial.finish()
