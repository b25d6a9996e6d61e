"""When the weather is good for a stroll. Pure rules: an observation in, objections out.

Good is when nothing speaks against it:

=============  ==========================================================
temperature    from 10 to 28 °C
wind           at most 25 km/h, and no gusts above 40 km/h
rain           less than can be measured (0.2 mm in the hour)
visibility     at least 5 km
daylight       the hour is light from end to end, by New York's clock
=============  ==========================================================

A temperature, wind or visibility that the station did not report speaks against it too: nobody is sent out
on a guess. Gusts and rain that are not reported are none.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from examples.weather.observations import Observation

TEMPERATURE_C_MIN, TEMPERATURE_C_MAX = 10.0, 28.0
WIND_KMH_MAX = 25.0
GUST_KMH_MAX = 40.0
RAIN_MM_MEASURABLE = 0.2
VISIBILITY_KM_MIN = 5.0

DAYLIGHT = {
    1: (8, 16), 2: (7, 17), 3: (7, 18), 4: (7, 19), 5: (6, 20), 6: (6, 20),
    7: (6, 20), 8: (6, 19), 9: (7, 18), 10: (8, 17), 11: (7, 16), 12: (8, 16),
}  # fmt: skip
"""By month: from which to which hour it is light in New York, in its own time (start and end)."""


def _new_york() -> tzinfo:
    try:
        return ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        # A machine without time zones (`pip install tzdata` gives them): winter time all the year.
        return timezone(timedelta(hours=-5), "EST")


NEW_YORK = _new_york()


def objections(observation: Observation) -> list[str]:
    """What speaks against a stroll, in words; an empty list is good weather."""
    found = [
        _temperature(observation.temperature_c),
        _wind(observation.wind_kmh, observation.gust_kmh),
        _rain(observation.rain_mm),
        _visibility(observation.visibility_km),
        None if is_light(observation.observed_at) else "dark",
    ]
    return [objection for objection in found if objection is not None]


def is_light(moment: datetime) -> bool:
    """Whether the hour that begins then lies between New York's morning and evening."""
    local = moment.astimezone(NEW_YORK)
    begin, end = DAYLIGHT[local.month]
    return begin <= local.hour < end


def _temperature(celsius: float | None) -> str | None:
    if celsius is None:
        return "no temperature reported"
    if celsius < TEMPERATURE_C_MIN:
        return f"cold, {celsius:.0f} °C"
    if celsius > TEMPERATURE_C_MAX:
        return f"hot, {celsius:.0f} °C"
    return None


def _wind(wind_kmh: float | None, gust_kmh: float | None) -> str | None:
    if wind_kmh is None:
        return "no wind reported"
    if wind_kmh > WIND_KMH_MAX:
        return f"windy, {wind_kmh:.0f} km/h"
    if gust_kmh is not None and gust_kmh > GUST_KMH_MAX:
        return f"gusts of {gust_kmh:.0f} km/h"
    return None


def _rain(millimetres: float | None) -> str | None:
    if millimetres is not None and millimetres >= RAIN_MM_MEASURABLE:
        return f"rain, {millimetres:.1f} mm"
    return None


def _visibility(kilometres: float | None) -> str | None:
    if kilometres is None:
        return "no visibility reported"
    if kilometres < VISIBILITY_KM_MIN:
        return f"fog, {kilometres:.1f} km to see"
    return None
