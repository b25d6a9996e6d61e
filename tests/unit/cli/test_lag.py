"""How far a group is behind."""

from __future__ import annotations

from ottla.cli.lag import Committed, Lag, lag_of, total

NOW_MS = 100_000


def _lag(committed: int | None, first_waiting_ms: int | None = None) -> Lag:
    return lag_of(Committed("t", 0, committed, 10, 20), first_waiting_ms, NOW_MS)


def test_the_first_waiting_records_age_is_the_lag_in_seconds() -> None:
    lag = _lag(15, 97_500)
    assert (lag.records, lag.seconds, lag.note) == (5, 2.5, None)


def test_nothing_waits_at_the_logs_end() -> None:
    assert Committed("t", 0, 20, 10, 20).next_offset is None
    lag = _lag(20)
    assert (lag.records, lag.seconds) == (0, 0.0)


def test_without_a_committed_offset_the_lag_is_unknown() -> None:
    assert Committed("t", 0, None, 10, 20).next_offset is None
    lag = _lag(None)
    assert (lag.records, lag.seconds) == (None, None)


def test_what_was_removed_waits_no_more_and_is_noted() -> None:
    assert Committed("t", 0, 4, 10, 20).next_offset == 10
    lag = _lag(4, 90_000)
    assert (lag.records, lag.seconds) == (10, 10.0)
    assert lag.note == "6 records were removed unread"


def test_an_offset_past_the_end_is_noted() -> None:
    lag = _lag(25)
    assert (lag.records, lag.seconds) == (0, 0.0)
    assert lag.note == "the offset is past the log's end"


def test_a_clock_that_runs_ahead_makes_no_negative_lag_and_a_missing_time_none() -> None:
    assert _lag(15, NOW_MS + 5_000).seconds == 0.0
    assert _lag(15, -1).seconds is None
    assert _lag(15, None).seconds is None


def test_a_groups_lag_is_all_records_and_the_longest_wait() -> None:
    assert total([_lag(15, 97_500), _lag(12, 90_000), _lag(None)]) == (13, 10.0)
    assert total([_lag(None)]) == (0, None)
