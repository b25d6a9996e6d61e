"""What the tests of a cluster share: one ensemble of three a process, a chroot in it a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.zookeeper import Ensemble, require_zookeeper


@pytest.fixture(scope="session")
def ensemble() -> Iterator[Ensemble]:
    """Three ZooKeeper servers. A test that stops one leaves it running."""
    require_zookeeper()
    with Ensemble(3) as servers:
        yield servers
