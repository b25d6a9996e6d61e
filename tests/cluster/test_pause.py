"""SIGSTOP for twice the session timeout: others take over, and it wakes up in the belief that nothing happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, SEED, pause, to_each, zookeeper_pause
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


def test_a_broker_that_was_paused_writes_nothing_in_the_name_of_its_old_leadership(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, *to_each(trial, pause), lambda _: zookeeper_pause(trial))
        trial.finish()
