"""Which copy of the record loops runs: the compiled one, or ``record_loops`` as it is.

The compiled one runs where it is there and was made of the very source that lies beside it: an edited
``record_loops`` is never answered for by what was compiled before. The comparison reads the source (its
CRC-32 was compiled in) and takes some 50 us. ``OTTLA_INTERPRETED=1`` asks for the interpreted one.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from ottla.records import record_loops

SOURCE = os.path.join(os.path.dirname(__file__), "record_loops.py")
COMPILED = "ottla.records.record_loops_compiled"
INTERPRETED = "ottla.records.record_loops"


class Choice(NamedTuple):
    """What runs, and why it is not the compiled copy; ``reason`` is empty where it is."""

    compiled: bool
    reason: str

    def __str__(self) -> str:
        return "compiled" if self.compiled else f"interpreted: {self.reason}"


def find_compiled() -> Choice:
    """Whether there is a compiled copy that is of our source."""
    try:
        found = import_module(COMPILED)
    except ImportError:
        return Choice(False, "there was no C compiler when it was installed")
    try:
        with open(SOURCE, "rb") as file:
            source_crc = crc32(file.read())
    except OSError:  # an installation without sources: nothing newer is there
        return Choice(True, "")
    if source_crc != found.SOURCE_CRC:
        return Choice(False, f"{os.path.basename(SOURCE)} has been changed since it was compiled")
    return Choice(True, "")


def choose() -> Choice:
    """Which copy is to run."""
    if os.environ.get("OTTLA_INTERPRETED", "") not in ("", "0"):
        return Choice(False, "OTTLA_INTERPRETED is set")
    return find_compiled()


choice = choose()
"""Which copy this process runs."""

if TYPE_CHECKING:
    loops = record_loops
else:
    loops = import_module(COMPILED if choice.compiled else INTERPRETED)
