"""What a test needs of the machine: another client's package or program.

Rule: what is missing is skipped with a reason that names it, or fails where ``OTTLA_TEST_REQUIRE_ALL=1`` says
that nothing may be left out.
"""

from __future__ import annotations

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest

REQUIRE_ALL = "OTTLA_TEST_REQUIRE_ALL"


def require_module(name: str, package: str) -> ModuleType:
    """The module ``name`` out of the pip package ``package``; without it the test, or module, is left out."""
    try:
        return importlib.import_module(name)
    except ImportError:
        leave_out(f"the Python package {package} is not installed")


def require_program(name: str, package: str) -> str:
    """The path of the program ``name`` out of the Debian package ``package``."""
    path = shutil.which(name)
    if path is None:
        leave_out(f"the program {name} (Debian package {package}) is not installed")
    return path


def leave_out(reason: str) -> NoReturn:
    """Skip the test or module that asks, or fail it where everything is required."""
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL}=1 leaves nothing out", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
