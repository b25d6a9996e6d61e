"""Times and durations as people write them on a command line.

A time is ``now``, ``2h ago`` (or ``-2h``), an ISO 8601 date or date and time, a number of milliseconds
since 1970, or ``@`` and a number of seconds since 1970. Without a zone it is the machine's local time.
A duration is a number with a unit, several of them (``1d 12h``), or ISO 8601 (``P1DT12H``).
"""

from __future__ import annotations

import re
from datetime import date, datetime

_UNITS_MS = {
    "ms": 1,
    "millisecond": 1,
    "milliseconds": 1,
    "s": 1000,
    "sec": 1000,
    "secs": 1000,
    "second": 1000,
    "seconds": 1000,
    "m": 60_000,
    "min": 60_000,
    "mins": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "h": 3_600_000,
    "hour": 3_600_000,
    "hours": 3_600_000,
    "d": 86_400_000,
    "day": 86_400_000,
    "days": 86_400_000,
    "w": 604_800_000,
    "week": 604_800_000,
    "weeks": 604_800_000,
}
_PART = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]+)")
_ISO_DURATION = re.compile(
    r"P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?"
)
_ISO_UNITS_MS = (604_800_000, 86_400_000, 3_600_000, 60_000, 1000)

TIME_FORMS = "now, 2h ago, 2024-05-01, 2024-05-01T12:00:00Z, 1714564800000 (ms) or @1714564800 (s)"
DURATION_FORMS = "90s, 15m, 2h, 1d 12h or PT2H30M"


def parse_duration(text: str) -> int:
    """A duration in milliseconds; raises ValueError with the forms that are taken."""
    stripped = text.strip()
    iso = _ISO_DURATION.fullmatch(stripped.upper())
    if iso and any(iso.groups()):
        return sum(
            round(float(number) * unit)
            for number, unit in zip(iso.groups(), _ISO_UNITS_MS, strict=True)
            if number
        )
    lowered = stripped.lower()
    position = 0
    total = 0.0
    while position < len(lowered):
        part = _PART.match(lowered, position)
        if part is None or part[2] not in _UNITS_MS:
            break
        total += float(part[1]) * _UNITS_MS[part[2]]
        position = part.end()
    if not lowered or position < len(lowered):
        raise ValueError(f"{text!r} is no duration; write it as {DURATION_FORMS}")
    return round(total)


def parse_time(text: str, now_ms: int) -> int:
    """A time in milliseconds since 1970; raises ValueError with the forms that are taken."""
    stripped = text.strip()
    lowered = stripped.lower()
    if lowered == "now":
        return now_ms
    if lowered.isascii() and lowered.isdigit() and len(lowered) > 8:
        return int(lowered)
    try:
        if lowered.startswith("@"):
            return round(float(lowered[1:]) * 1000)
        if lowered.endswith(" ago"):
            return now_ms - parse_duration(stripped[:-4])
        if lowered.startswith("-"):
            return now_ms - parse_duration(stripped[1:])
        return _parse_iso(stripped)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time; write it as {TIME_FORMS}") from None


def format_time(timestamp_ms: int) -> str:
    """A time as ISO 8601 in UTC with milliseconds; a number that is no date stays a number."""
    from datetime import UTC

    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{timestamp_ms % 1000:03d}Z"


def format_duration(milliseconds: int) -> str:
    """A duration for people: two units at most, as ``1 d 2 h``."""
    seconds = max(milliseconds, 0) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, size, smaller, small_size in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def _parse_iso(text: str) -> int:
    if len(text) == 10:
        moment = datetime.combine(date.fromisoformat(text), datetime.min.time())
    else:
        moment = datetime.fromisoformat(text)
    return round(moment.timestamp() * 1000)
