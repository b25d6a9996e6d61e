"""Both copies of the record loops, and a fixture that has a module's tests run over each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from ottla.records import chosen_loops, codec

COPIES = ("compiled", "interpreted")


def copy_of_loops(name: str) -> Any:
    """The module. Raises ``LookupError`` where there is no compiled copy of the present source."""
    if name == "interpreted":
        return import_module(chosen_loops.INTERPRETED)
    found = chosen_loops.find_compiled()
    if not found.compiled:
        raise LookupError(f"no compiled record codec: {found.reason}")
    return import_module(chosen_loops.COMPILED)


def require_compiled() -> Any:
    """The compiled copy; skips without one, and fails with ``OTTLA_TEST_REQUIRE_ALL=1``."""
    try:
        return copy_of_loops("compiled")
    except LookupError as error:
        if os.environ.get("OTTLA_TEST_REQUIRE_ALL") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=COPIES)
def each_codec(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of a module that uses it runs with the compiled and with the interpreted record loops."""
    loops = require_compiled() if request.param == "compiled" else copy_of_loops(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "loops", loops)
        yield request.param
