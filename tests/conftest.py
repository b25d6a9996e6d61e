"""What all tests share: property tests run the same examples every time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# The same examples on every machine and in every run: a failure can be run again, and a change of the code is
# the only cause of a change of the outcome. --hypothesis-profile=explore looks further.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", max_examples=2000, deadline=None)
# For who only wants to know whether it fails: tests/meta.
settings.register_profile(
    "first failure",
    settings.get_profile("repeatable"),
    phases=(Phase.explicit, Phase.generate),
    database=None,
)
settings.load_profile("repeatable")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what the planted bugs cost: with several workers it is less on the clock."""
    seconds = [
        report.duration
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
        and "tests/meta/test_invariants.py" in report.nodeid
    ]
    if seconds:
        terminalreporter.write_line(
            f"tests of the tests (planted bugs): {sum(seconds):.0f} s of work"
        )
