"""A connection to the broker of the test."""

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
