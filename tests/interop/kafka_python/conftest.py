"""kafka-python leaves a socket to the garbage collector at times; no other test shall hear of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    """Collect them at the end of the test that left them."""
    from tests.interop.kafka_python.adapter import collect_sockets

    yield
    collect_sockets()
