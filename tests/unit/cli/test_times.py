"""Times and durations on a command line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.cli.times import format_duration, format_time, parse_duration, parse_time

NOW_MS = 1_714_564_800_000  # 2024-05-01T12:00:00Z


@pytest.fixture(autouse=True)
def _kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's zone is 5:30 ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90s", 90_000),
        ("15m", 900_000),
        ("2h", 7_200_000),
        ("1d 12h", 129_600_000),
        ("1d12h", 129_600_000),
        ("2 hours", 7_200_000),
        ("1 Week", 604_800_000),
        ("250ms", 250),
        ("1.5h", 5_400_000),
        ("PT2H30M", 9_000_000),
        ("P1DT12H", 129_600_000),
        ("P2W", 1_209_600_000),
        ("PT0.5S", 500),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 parsecs", "P", "PT", "2h ago", "-2h", "2h,3m"])
def test_what_is_no_duration_is_refused_with_the_forms_that_are_taken(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write it as 90s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("now", NOW_MS),
        ("2h ago", NOW_MS - 7_200_000),
        ("1 day 2 hours ago", NOW_MS - 93_600_000),
        ("-15m", NOW_MS - 900_000),
        ("1714564800000", NOW_MS),
        ("@1714564800", NOW_MS),
        ("@1714564800.5", NOW_MS + 500),
        ("2024-05-01T12:00:00Z", NOW_MS),
        ("2024-05-01T14:00:00+02:00", NOW_MS),
        ("2024-05-01 17:30", NOW_MS),
        ("2024-05-01T17:30:00.250", NOW_MS + 250),
        ("2024-05-01", NOW_MS - 63_000_000),
    ],
)
def test_times_are_read_and_have_the_machines_zone_without_one(text: str, expected_ms: int) -> None:
    assert parse_time(text, NOW_MS) == expected_ms


@pytest.mark.parametrize(
    "text", ["", "soon", "2h", "ago", "2024-13-01", "@x", "@nan", "@inf", "12"]
)
def test_what_is_no_time_is_refused_with_the_forms_that_are_taken(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; write it as now, 2h ago"):
        parse_time(text, NOW_MS)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        result = parse_time(text, NOW_MS)
    except ValueError:
        return
    assert isinstance(result, int)


def test_a_time_is_shown_in_utc_to_the_millisecond() -> None:
    assert format_time(NOW_MS + 7) == "2024-05-01T12:00:00.007Z"
    assert format_time(-1) == "1969-12-31T23:59:59.999Z"
    assert format_time(10**18) == str(10**18)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-5, "0.0 s"),
        (1234, "1.2 s"),
        (59_000, "59 s"),
        (60_000, "1 min"),
        (61_000, "1 min 1 s"),
        (7_260_000, "2 h 1 min"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_shown_in_two_units(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text
