"""The pytest plugin that comes with the package: the fixture ``ottla_broker``.

    def test_a_greeting_arrives(ottla_broker):
        with Producer(ottla_broker.bootstrap) as producer:
            producer.send("greetings", b"hello").result()

Each test gets a broker of its own, with nothing in it. ``@pytest.mark.ottla({"num.partitions": 3})`` sets
Kafka's settings for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ottla.testing.broker import Broker


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "ottla(settings): Kafka settings for the broker of the fixture ottla_broker"
    )


@pytest.fixture
def ottla_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A real broker in this process, on a free port, empty, stopped when the test ends."""
    from ottla.testing.broker import Broker

    marker = request.node.get_closest_marker("ottla")
    with Broker(marker.args[0] if marker is not None else None) as broker:
        yield broker
