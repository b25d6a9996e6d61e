"""Sessions with ZooKeeper that end or hang while the brokers are well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import (
    BOUNCES,
    SEED,
    cut_from_others,
    cut_from_zookeeper,
    expire,
    to_each,
)
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


def test_a_session_that_is_ended_or_cut_off_costs_nothing_acknowledged(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    """Who is cut off from ZooKeeper alone stops acknowledging before others begin."""
    with (
        ClusterProcesses(tmp_path, ensemble, proxied=True) as cluster,
        Trial(cluster, SEED) as trial,
    ):
        trial.begin()
        trial.repeat(
            BOUNCES,
            *to_each(trial, expire, ["leader", "controller"]),
            *to_each(trial, cut_from_zookeeper, ["leader", "controller"]),
            *to_each(trial, cut_from_others, ["leader"]),
        )
        trial.finish()
