"""A pytest plugin that writes down what was collected, what became of it, and why.

Used by the meta-tests in the pytest processes that they start (``-p tests.meta.outcomes``): ``OTTLA_OUTCOMES``
names the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_found: dict[str, Any] = {"collected": [], "broken": [], "outcomes": {}, "package": ""}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the tests."""
    _found["collected"] = [item.nodeid for item in session.items]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note what could not even be collected."""
    if report.failed:
        _found["broken"].append(f"{report.nodeid}: {report.longreprtext[-600:]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # what a hook wrapper yields for, and returns, is pytest's
    """Note the worst outcome of a test's phases: phase, outcome, names of the error's types, its text."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    known = _found["outcomes"].get(item.nodeid)
    if known is None or known[1] == "passed":
        error = None if call.excinfo is None else call.excinfo.value
        text = "" if error is None else f"{type(error).__name__}: {error}"[:300]
        _found["outcomes"][item.nodeid] = [report.when, report.outcome, _kinds(error), text]
    return report  # type: ignore[return-value]


def _kinds(error: BaseException | None) -> list[str]:
    """The names of an error's class and its bases; of all of a group's errors."""
    if isinstance(error, BaseExceptionGroup):
        return sorted({name for each in error.exceptions for name in _kinds(each)})
    return [] if error is None else [one.__name__ for one in type(error).__mro__]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write it all."""
    import ottla

    _found["package"] = str(ottla.__file__)
    Path(os.environ["OTTLA_OUTCOMES"]).write_text(json.dumps(_found))
