"""SIGTERM of the leader, the controller, a follower, ZooKeeper's leader, again and again, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, SEED, VICTIMS, terminate, zookeeper_terminate
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("who", VICTIMS)
def test_nothing_acknowledged_is_lost_when_brokers_are_stopped_and_started(
    who: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: terminate(trial, VICTIMS[who](trial)))
        trial.finish()


def test_the_cluster_goes_on_when_the_leader_of_zookeeper_is_stopped(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: zookeeper_terminate(trial))
        trial.finish()
