"""Ottla: event streaming in Python, with Kafka's protocol, files and semantics."""

from __future__ import annotations
