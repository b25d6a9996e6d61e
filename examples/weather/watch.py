"""From observations to alerts: since when a station's weather is good, and the moment that it changes.

A ``Watch`` follows the stations of one partition. What it remembers fits into the note that Kafka keeps beside
every committed offset (4,096 bytes at most), so that one commit saves both: how far was read, and what was known then.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from examples.weather import rules
from examples.weather.observations import Observation


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What the user is told. ``partition`` and ``offset`` name the record that it comes from, once and for all."""

    partition: int
    offset: int
    station: str
    observed_at: datetime
    good: bool
    text: str

    def __str__(self) -> str:
        local = self.observed_at.astimezone(rules.NEW_YORK)
        place = f"[partition {self.partition}, offset {self.offset}]"
        return f"{local:%Y-%m-%d %H:%M}  {self.station}  {self.text}  {place}"


class Watch:
    """The stations of one partition: since when each is good for a stroll. A station not named is not good."""

    def __init__(self, partition: int, note: str = "") -> None:
        """``note`` is what ``note()`` gave at the last commit; empty for a partition never read before."""
        self.partition = partition
        self._good_since: dict[str, datetime] = (
            msgspec.json.decode(note, type=dict[str, datetime]) if note else {}
        )

    def note(self) -> str:
        """What is known now, to be committed beside the offset."""
        return msgspec.json.encode(self._good_since).decode()

    def observe(self, observation: Observation, offset: int) -> Alert | None:
        """Judge the next observation of the partition; an alert if it changes what its station is."""
        station = observation.station
        against = rules.objections(observation)
        since = self._good_since.get(station)
        if (since is not None) == (not against):
            return None
        if since is None:
            self._good_since[station] = observation.observed_at
            text = f"good for a stroll: {_weather(observation)}"
        else:
            del self._good_since[station]
            hours = (observation.observed_at - since).total_seconds() / 3600
            text = f"no more ({', '.join(against)}) after {hours:.0f} h"
        return Alert(
            partition=self.partition,
            offset=offset,
            station=station,
            observed_at=observation.observed_at,
            good=not against,
            text=text,
        )


def _weather(observation: Observation) -> str:
    return f"{observation.temperature_c:.0f} °C, wind {observation.wind_kmh:.0f} km/h"
