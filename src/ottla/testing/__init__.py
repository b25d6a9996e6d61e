"""Real brokers inside a test: ``Broker``, ``Cluster``, and the pytest fixtures ``ottla_broker`` and ``ottla_cluster``."""

from __future__ import annotations

from ottla.testing.broker import Broker
from ottla.testing.cluster import Cluster

__all__ = ["Broker", "Cluster"]
