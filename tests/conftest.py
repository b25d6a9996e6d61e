"""What all tests share: property tests run the same examples every time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples on every machine and in every run: a failure can be run again, and a change of the code is
# the only cause of a change of the outcome. HYPOTHESIS_PROFILE=explore looks further.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile("repeatable")
