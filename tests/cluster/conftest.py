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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here run on one worker: they share its ensemble, and three brokers want a machine for themselves."""
    for item in items:
        if item.path.parent == HOME:
            item.add_marker(pytest.mark.xdist_group("cluster"))
