"""What the tests of a cluster share: one ensemble of three a process, a chroot in it a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.zookeeper import Ensemble, require_zookeeper

HOME = Path(__file__).parent


@pytest.fixture(scope="session")
def ensemble() -> Iterator[Ensemble]:
    """Three ZooKeeper servers. A test that stops one leaves it running."""
    require_zookeeper()
    with Ensemble(3) as servers:
        yield servers


BESIDE = frozenset(
    {
        "test_both_stores.py",
        "test_clients_ride_through.py",
        "test_command.py",
        "test_kafka_tools.py",
        "test_make_cluster.py",
        "test_mixes.py",
        "test_session.py",
    }
)
"""What takes about as long as all the rest here: two workers have half of the work each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """At most two clusters at a time: workers have an ensemble each, and three brokers want a core for themselves."""
    for item in items:
        if item.path.parent == HOME:
            group = "cluster-beside" if item.path.name in BESIDE else "cluster"
            item.add_marker(pytest.mark.xdist_group(group))
