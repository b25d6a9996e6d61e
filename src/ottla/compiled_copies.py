"""Which copy of a module runs: the one that was compiled when it was installed, or the source as it is.

The compiled one runs where it is there and was made of the very source that lies beside it: an edited source
is never answered for by what was compiled before. The comparison reads the source (its CRC-32 was compiled in)
and takes some 50 us. ``OTTLA_INTERPRETED=1`` asks for the interpreted ones.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import NamedTuple
from zlib import crc32


class Choice(NamedTuple):
    """What runs, and why it is not the compiled copy; ``reason`` is empty where it is."""

    compiled: bool
    reason: str

    def __str__(self) -> str:
        return "compiled" if self.compiled else f"interpreted: {self.reason}"


def find_compiled(compiled: str, source: str) -> Choice:
    """Whether there is a module ``compiled`` that is of the ``source`` at that path."""
    try:
        found = import_module(compiled)
    except ImportError:
        return Choice(False, "there was no C compiler when it was installed")
    try:
        with open(source, "rb") as file:
            source_crc = crc32(file.read())
    except OSError:  # an installation without sources: nothing newer is there
        return Choice(True, "")
    if source_crc != found.SOURCE_CRC:
        return Choice(False, f"{os.path.basename(source)} has been changed since it was compiled")
    return Choice(True, "")


def choose(compiled: str, source: str) -> Choice:
    """Which copy is to run."""
    if os.environ.get("OTTLA_INTERPRETED", "") not in ("", "0"):
        return Choice(False, "OTTLA_INTERPRETED is set")
    return find_compiled(compiled, source)
