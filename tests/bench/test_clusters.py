"""The benchmark's cluster of ours: brokers on an ensemble, whose share of the work is told apart, and which ends with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.peers import clusters
from bench.peers.clusters import OttlaCluster, zookeeper_cpu_seconds, zookeeper_pss_mb
from tests.support.zookeeper import require_zookeeper

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def test_brokers_and_their_ensemble_are_one_cluster_and_end_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_zookeeper()
    monkeypatch.setattr(clusters, "ENSEMBLE", 1)
    with OttlaCluster().running("os", 2) as running:
        assert sorted(running.create_topic("t", 2, 2)) == sorted(running.ports)
        assert running.in_sync("t") == [2, 2]
        pids = running.pids()
        (server,) = running.others
        assert server in pids
        assert len(pids) == 3
        assert 0 < zookeeper_cpu_seconds(running) < running.cpu_seconds()
        assert 0 < zookeeper_pss_mb(running) < running.pss_mb()
    assert running.others == []
    assert not running.directory.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


class StandIn:
    """An ensemble of nobody."""

    connect = "127.0.0.1:1"
    servers = ()

    def __init__(self, count: int, **options: Any) -> None:
        self.runs = False

    def start(self) -> None:
        self.runs = True

    def close(self) -> None:
        self.runs = False


def test_an_ensemble_whose_brokers_can_not_be_started_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[StandIn] = []

    def ensemble(count: int, **options: Any) -> StandIn:
        made.append(StandIn(count, **options))
        return made[-1]

    monkeypatch.setattr(clusters, "Ensemble", ensemble)
    with pytest.raises(OSError, match="no/such"):
        OttlaCluster().start(tmp_path / "no" / "such", "os")
    assert [one.runs for one in made] == [False]
