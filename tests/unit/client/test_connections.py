"""Which connection a client uses for what."""

from __future__ import annotations

from typing import Any

from ottla.client.connections import Connections
from ottla.client.metadata import Node
from ottla.client.settings import ConnectionSettings


class ToyChannel:
    """A connection."""

    def __init__(self, *, closed: bool = False) -> None:
        self.closed = closed
        self.in_flight = 0


def test_connection_to_a_bootstrap_address_takes_the_place_of_one_that_broke() -> None:
    """Else it stays open, of no use to anybody, and another is made beside it."""
    connections = Connections(ConnectionSettings((("host", 1),)))
    broken: Any = ToyChannel(closed=True)
    found: Any = ToyChannel()
    connections._channels["host", 1, "main"] = broken
    connections._channels["host", 1, "bootstrap"] = found
    connections.share("host", 1, Node(1, "host", 1))
    assert connections.ready(Node(1, "host", 1), "main") is found


def test_connection_to_a_bootstrap_address_is_kept_beside_one_that_works() -> None:
    connections = Connections(ConnectionSettings((("host", 1),)))
    works: Any = ToyChannel()
    found: Any = ToyChannel()
    connections._channels["host", 1, "main"] = works
    connections._channels["host", 1, "bootstrap"] = found
    connections.share("host", 1, Node(1, "host", 1))
    assert connections.ready(Node(1, "host", 1), "main") is works
    assert found in connections.connected()
