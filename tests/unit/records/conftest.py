"""What lies in a batch is read and written by both copies of the record loops."""

from __future__ import annotations

import pytest

from tests.support.record_codec import each_codec

__all__ = ["each_codec", "everywhere"]


@pytest.fixture(scope="module", autouse=True)
def everywhere(each_codec: str) -> str:
    """No test here knows which copy it runs on."""
    return each_codec
