"""SIGKILL of the leader, the controller, a follower, ZooKeeper's leader, again and again, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import (
    BOUNCES,
    SEED,
    VICTIMS,
    kill,
    kill_and_start_at_once,
    leader,
    zookeeper_kill,
)
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("who", VICTIMS)
def test_nothing_acknowledged_is_lost_when_brokers_are_killed(
    who: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: kill(trial, VICTIMS[who](trial)))
        trial.finish()


def test_a_leader_that_is_back_before_its_death_is_noticed_changes_nothing_acknowledged(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: kill_and_start_at_once(trial, leader(trial)))
        trial.finish()


def test_replicas_that_acknowledge_without_the_disk_lose_nothing_to_killed_processes(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    settings = {"durability": "os"}
    with ClusterProcesses(tmp_path, ensemble, settings) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: kill(trial, leader(trial)))
        trial.finish()


def test_the_cluster_goes_on_when_the_leader_of_zookeeper_is_killed(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: zookeeper_kill(trial))
        trial.finish()
