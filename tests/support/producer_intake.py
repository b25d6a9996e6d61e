"""Both copies of the producer's intake, and a fixture that has a module's tests run over each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from ottla.client.producer import accumulator, chosen_intake, core, partition_queue

COPIES = ("compiled", "interpreted")


def copy_of_intake(name: str) -> Any:
    """The module; skips without a compiled copy of the present source, and fails with ``OTTLA_TEST_REQUIRE_ALL=1``."""
    if name == "interpreted":
        return import_module(chosen_intake.INTERPRETED)
    found = chosen_intake.find_compiled()
    if found.compiled:
        return import_module(chosen_intake.COMPILED)
    if os.environ.get("OTTLA_TEST_REQUIRE_ALL") == "1":
        pytest.fail(f"no compiled intake: {found.reason}")
    pytest.skip(f"no compiled intake: {found.reason}")


@pytest.fixture(params=COPIES)
def each_intake(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every test that uses it runs with the compiled and with the interpreted intake, which it is given."""
    copy = copy_of_intake(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for module in (accumulator, core, partition_queue):
            for name in ("Batch", "Buffer", "Intake", "Topic"):
                if hasattr(module, name):
                    patch.setattr(module, name, getattr(copy, name))
        yield copy
