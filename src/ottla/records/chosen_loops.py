"""Which copy of the record loops runs: the compiled one, or ``record_loops`` as it is (``compiled_copies``)."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from ottla import compiled_copies
from ottla.compiled_copies import Choice

if TYPE_CHECKING:
    from ottla.records import record_loops

SOURCE = os.path.join(os.path.dirname(__file__), "record_loops.py")
COMPILED = "ottla.records.record_loops_compiled"
INTERPRETED = "ottla.records.record_loops"


def find_compiled() -> Choice:
    """Whether there is a compiled copy that is of our source."""
    return compiled_copies.find_compiled(COMPILED, SOURCE)


def choose() -> Choice:
    """Which copy is to run."""
    return compiled_copies.choose(COMPILED, SOURCE)


choice = choose()
"""Which copy this process runs."""

if TYPE_CHECKING:
    loops = record_loops
else:
    loops = import_module(COMPILED if choice.compiled else INTERPRETED)
