"""Packets from one broker to another are dropped, those back are not: each believes something else of the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, PAUSE_S, SEED, VICTIMS
from tests.cluster.namespaces import Namespaces, require_namespaces
from tests.cluster.processes import BROKERS, ClusterProcesses
from tests.cluster.trial import Trial
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop


def test_one_way_cuts_between_brokers_lose_nothing(ensemble: Ensemble, tmp_path: Path) -> None:
    require_namespaces()
    with (
        Namespaces(list(BROKERS)) as namespaces,
        ClusterProcesses(tmp_path, ensemble, namespaces=namespaces) as cluster,
        Trial(cluster, SEED) as trial,
    ):
        trial.begin()

        def cut(number: int, way: str) -> None:
            who = ("leader", "controller")[number % 2]
            victim = VICTIMS[who](trial)
            peers = [node for node in BROKERS if node != victim]
            # One of the two others, and now and then both.
            for peer in peers if number % 3 == 2 else [trial.random.choice(peers)]:
                source, target = (victim, peer) if way == "from" else (peer, victim)
                trial.note(f"no packet from {source} to {target}")
                namespaces.cut(source, target)
            trial.let_pass(PAUSE_S)
            trial.note("healed")
            namespaces.heal()

        trial.repeat(BOUNCES, lambda number: cut(number, "from"), lambda number: cut(number, "to"))
        trial.finish()
