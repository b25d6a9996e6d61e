"""Fixtures of the property tests."""

from __future__ import annotations

from tests.support.record_codec import each_codec

__all__ = ["each_codec"]
