"""Histograms count every duration in the bucket that it belongs to."""

from __future__ import annotations

import pytest

from ottla.metering import Histogram


def test_a_duration_is_below_the_bounds_above_it_and_no_other() -> None:
    for seconds in (0.0, 1e-9, 1e-6, 15e-6, 0.001, 0.5, 1.0, 3.9, 15.0):
        histogram = Histogram()
        histogram.observe(seconds)
        for bound_s, below in histogram.cumulative():
            assert below == (seconds < bound_s), (seconds, bound_s)
        assert histogram.count == 1
        assert histogram.total_s == seconds


@pytest.mark.parametrize("seconds", [16.0, 1e5, 2.0**32])
def test_what_is_very_long_is_counted_behind_the_last_bound(seconds: float) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.count == 1
    assert histogram.cumulative()[-1][1] == 0
