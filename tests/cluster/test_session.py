"""Sessions with ZooKeeper that end or hang while the brokers are well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import (
    BOUNCES,
    SEED,
    VICTIMS,
    cut_from_others,
    cut_from_zookeeper,
    expire,
    leader,
)
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("who", ["leader", "controller"])
def test_a_session_that_is_ended_costs_nothing_acknowledged(
    who: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, lambda _: expire(trial, VICTIMS[who](trial)))
        trial.finish()


@pytest.mark.parametrize("who", ["leader", "controller"])
def test_a_broker_that_is_cut_off_from_zookeeper_alone_stops_acknowledging_before_others_begin(
    who: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    with (
        ClusterProcesses(tmp_path, ensemble, proxied=True) as cluster,
        Trial(cluster, SEED) as trial,
    ):
        trial.begin()
        trial.repeat(BOUNCES, lambda _: cut_from_zookeeper(trial, VICTIMS[who](trial)))
        trial.finish()


def test_a_leader_that_only_zookeeper_reaches_loses_nothing(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with (
        ClusterProcesses(tmp_path, ensemble, proxied=True) as cluster,
        Trial(cluster, SEED) as trial,
    ):
        trial.begin()
        trial.repeat(BOUNCES, lambda _: cut_from_others(trial, leader(trial)))
        trial.finish()
