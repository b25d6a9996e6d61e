"""A real broker inside a test: ``ottla.testing.Broker`` and the pytest fixture ``ottla_broker``."""

from __future__ import annotations

from ottla.testing.broker import Broker

__all__ = ["Broker"]
