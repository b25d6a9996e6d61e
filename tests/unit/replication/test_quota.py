"""The rate of throttled replication, and which replicas are."""

from __future__ import annotations

from ottla.clock import ManualClock
from ottla.replication.quota import ReplicationQuota, is_throttled


def test_a_replica_is_throttled_by_name_or_with_all_others() -> None:
    assert is_throttled(("0:1", "2:3"), 2, 3)
    assert is_throttled(("*",), 2, 3)
    assert not is_throttled(("2:1", "3:3"), 2, 3)
    assert not is_throttled((), 2, 3)
    assert not is_throttled(("none",), 2, 3)


def test_the_rate_is_measured_from_the_oldest_window_and_a_first_one_counts_as_a_whole() -> None:
    clock = ManualClock()
    quota = ReplicationQuota(lambda: 1000, clock.monotonic)
    assert (quota.rate, quota.is_exceeded) == (0, False)
    quota.record(1000)
    assert (quota.rate, quota.is_exceeded) == (1000, False)
    quota.record(1)
    assert quota.is_exceeded
    clock.advance(2000)
    assert (quota.rate, quota.is_exceeded) == (500.5, False)
    quota.record(3000)
    assert quota.is_exceeded
    clock.advance(9000)  # the first window is forgotten, the one of two seconds later is not
    assert quota.rate == 3000 / 9
    clock.advance(2000)
    assert quota.rate == 0


def test_a_limit_that_is_changed_counts_at_once() -> None:
    limit = [100]
    quota = ReplicationQuota(lambda: limit[0], ManualClock().monotonic)
    quota.record(200)
    assert quota.is_exceeded
    limit[0] = 300
    assert not quota.is_exceeded
