"""What tests of a broker share: a connection to it, and turns that are never long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ottla.testing import Broker
from tests.support.wire import Wire


@pytest.fixture
def wire(ottla_broker: Broker) -> Iterator[Wire]:
    """A connection to ``ottla_broker``."""
    with Wire(ottla_broker.bootstrap) as connected:
        yield connected


@pytest.fixture
def no_turn_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine: who had a long turn does not join others the next time, but waits in a queue."""
    monkeypatch.setattr("ottla.network.connection.BUSY_S", 60.0)
