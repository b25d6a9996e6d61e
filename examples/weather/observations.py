"""What a weather station reports: read from the file of 2013, and carried as JSON in a record's value."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

DATA = Path(__file__).with_name("data") / "nyc-weather-2013.csv.gz"
STATIONS = ("EWR", "JFK", "LGA")
"""The airports around New York that report: Newark, Kennedy and LaGuardia."""

KM_PER_MILE = 1.609344
MM_PER_INCH = 25.4


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One hour at one station, in metric units. None is what the station did not report."""

    station: str
    observed_at: datetime
    """The station's own time of the observation, in UTC; not the time of its publication."""
    temperature_c: float | None = None
    dew_point_c: float | None = None
    humidity_percent: float | None = None
    wind_direction_degrees: float | None = None
    wind_kmh: float | None = None
    gust_kmh: float | None = None
    """None most of the time: a station reports gusts only when there are some."""
    rain_mm: float | None = None
    """What fell in the hour."""
    pressure_hpa: float | None = None
    visibility_km: float | None = None


to_json = msgspec.json.encode
"""An observation as the bytes of a record's value."""

from_json = msgspec.json.Decoder(Observation).decode
"""An observation from a record's value; raises ``msgspec.DecodeError`` for anything else."""


def read_observations(path: Path = DATA) -> list[Observation]:
    """All observations of the file, as they happened: by time, across the stations."""
    with gzip.open(path, "rt", encoding="ascii", newline="") as lines:
        observations = list(_parse(lines))
    observations.sort(key=lambda observation: (observation.observed_at, observation.station))
    return observations


def _parse(lines: Iterator[str]) -> Iterator[Observation]:
    for row in csv.DictReader(lines):
        yield Observation(
            station=row["origin"],
            observed_at=datetime.fromisoformat(row["time_hour"]),
            temperature_c=_celsius(row["temp"]),
            dew_point_c=_celsius(row["dewp"]),
            humidity_percent=_scaled(row["humid"]),
            wind_direction_degrees=_scaled(row["wind_dir"]),
            wind_kmh=_scaled(row["wind_speed"], KM_PER_MILE),
            gust_kmh=_scaled(row["wind_gust"], KM_PER_MILE),
            rain_mm=_scaled(row["precip"], MM_PER_INCH),
            pressure_hpa=_scaled(row["pressure"]),
            visibility_km=_scaled(row["visib"], KM_PER_MILE),
        )


def _celsius(fahrenheit: str) -> float | None:
    return None if fahrenheit == "NA" else round((float(fahrenheit) - 32) / 1.8, 1)


def _scaled(value: str, factor: float = 1.0) -> float | None:
    return None if value == "NA" else round(float(value) * factor, 2)
