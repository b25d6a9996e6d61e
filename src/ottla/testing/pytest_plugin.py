"""The pytest plugin that comes with the package: the fixtures ``ottla_broker`` and ``ottla_cluster``.

    def test_a_greeting_arrives(ottla_broker):
        with Producer(ottla_broker.bootstrap) as producer:
            producer.send("greetings", b"hello").result()

    def test_a_greeting_survives_its_broker(ottla_cluster):
        with Producer(ottla_cluster.bootstrap) as producer:
            producer.send("greetings", b"hello").result()
            ottla_cluster.kill_leader("greetings")
            producer.send("greetings", b"still here").result()

Each test gets a broker, or three, of its own, with nothing in it. ``@pytest.mark.ottla({"num.partitions": 3})`` sets
Kafka's settings for them; ``@pytest.mark.ottla(brokers=5)`` says how many brokers the cluster has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ottla.testing.broker import Broker
    from ottla.testing.cluster import Cluster


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "ottla(settings, brokers=3): Kafka settings for what ottla_broker and ottla_cluster give a test,"
        " and how many brokers the cluster has",
    )


@pytest.fixture
def ottla_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A real broker in this process, on a free port, empty, stopped when the test ends."""
    from ottla.testing.broker import Broker

    settings, _ = _marked(request)
    with Broker(settings) as broker:
        yield broker


@pytest.fixture
def ottla_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Real brokers in this process, a cluster, empty, stopped when the test ends."""
    from ottla.testing.cluster import Cluster

    settings, options = _marked(request)
    with Cluster(settings=settings, **options) as cluster:
        yield cluster


def _marked(request: pytest.FixtureRequest) -> tuple[Mapping[str, object] | None, dict[str, Any]]:
    """What ``@pytest.mark.ottla`` says: settings, and other arguments."""
    marker = request.node.get_closest_marker("ottla")
    if marker is None:
        return None, {}
    return (marker.args[0] if marker.args else None), dict(marker.kwargs)
