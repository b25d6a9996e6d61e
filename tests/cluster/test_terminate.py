"""SIGTERM of the leader, the controller, a follower, ZooKeeper's leader, again and again, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, SEED, terminate, to_each, zookeeper_terminate
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


def test_nothing_acknowledged_is_lost_when_brokers_and_zookeepers_leader_are_stopped_and_started(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, *to_each(trial, terminate), lambda _: zookeeper_terminate(trial))
        trial.finish()
