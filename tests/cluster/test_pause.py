"""SIGSTOP for twice the session timeout: others take over, and it wakes up in the belief that nothing happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, SEED, VICTIMS, pause, zookeeper_pause
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("who", VICTIMS)
def test_a_broker_that_was_paused_writes_nothing_in_the_name_of_its_old_leadership(
    who: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: pause(trial, VICTIMS[who](trial)))
        trial.finish()


def test_the_cluster_goes_on_when_the_leader_of_zookeeper_is_paused(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: zookeeper_pause(trial))
        trial.finish()
