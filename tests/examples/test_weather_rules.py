"""The parts of the weather application that need no broker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from examples.weather import rules
from examples.weather.capture import duration_ms, paced
from examples.weather.observations import (
    STATIONS,
    Observation,
    from_json,
    read_observations,
    to_json,
)
from examples.weather.watch import Watch

NOON = datetime(2013, 5, 1, 12, tzinfo=rules.NEW_YORK).astimezone(UTC)
FINE = Observation(
    station="JFK",
    observed_at=NOON,
    temperature_c=18.0,
    wind_kmh=10.0,
    rain_mm=0.0,
    visibility_km=16.0,
)


def but(**changes: object) -> Observation:
    """The fine observation with something changed."""
    return msgspec.structs.replace(FINE, **changes)


@pytest.fixture(scope="module")
def year() -> list[Observation]:
    return read_observations()


def test_the_file_has_26115_observations_in_the_order_of_their_time(year):
    assert len(year) == 26_115
    assert {observation.station for observation in year} == set(STATIONS)
    times = [observation.observed_at for observation in year]
    assert times == sorted(times)
    assert len({(observation.station, observation.observed_at) for observation in year}) == 26_115


def test_observations_are_metric_and_in_utc(year):
    first = year[0]
    assert first == Observation(
        station="EWR",
        observed_at=datetime(2013, 1, 1, 6, tzinfo=UTC),
        temperature_c=3.9,  # 39.02 °F
        dew_point_c=-3.3,  # 26.06 °F
        humidity_percent=59.37,
        wind_direction_degrees=270,
        wind_kmh=16.67,  # 10.36 mph
        gust_kmh=None,
        rain_mm=0,
        pressure_hpa=1012,
        visibility_km=16.09,  # 10 miles
    )
    assert max(observation.rain_mm or 0 for observation in year) == 30.73  # 1.21 inch


def test_what_a_station_did_not_report_is_none(year):
    assert sum(observation.pressure_hpa is None for observation in year) == 2_729
    assert sum(observation.gust_kmh is None for observation in year) == 20_778
    assert sum(observation.temperature_c is None for observation in year) == 1


def test_an_observation_survives_its_way_through_json(year):
    assert [from_json(to_json(observation)) for observation in year] == year


def test_other_bytes_are_no_observation():
    with pytest.raises(msgspec.DecodeError):
        from_json(b'{"station": "JFK"}')


def test_nothing_speaks_against_a_stroll_on_a_mild_dry_calm_day():
    assert rules.objections(FINE) == []


@pytest.mark.parametrize(
    ("observation", "objection"),
    [
        (but(temperature_c=9.9), "cold, 10 °C"),
        (but(temperature_c=28.1), "hot, 28 °C"),
        (but(temperature_c=None), "no temperature reported"),
        (but(wind_kmh=25.1), "windy, 25 km/h"),
        (but(wind_kmh=None), "no wind reported"),
        (but(gust_kmh=40.1), "gusts of 40 km/h"),
        (but(rain_mm=0.25), "rain, 0.2 mm"),
        (but(visibility_km=4.9), "fog, 4.9 km to see"),
        (but(visibility_km=None), "no visibility reported"),
        (but(observed_at=NOON + timedelta(hours=12)), "dark"),
    ],
)
def test_one_thing_is_enough_to_stay_at_home(observation, objection):
    assert rules.objections(observation) == [objection]


@pytest.mark.parametrize(
    "observation",
    [
        but(temperature_c=10.0),
        but(temperature_c=28.0),
        but(wind_kmh=25.0, gust_kmh=40.0),
        but(rain_mm=None),
        but(visibility_km=5.0),
    ],
)
def test_a_limit_itself_is_still_good(observation):
    assert rules.objections(observation) == []


def test_daylight_goes_by_the_clock_of_new_york():
    def light(month: int, hour: int) -> bool:
        return rules.is_light(datetime(2013, month, 15, hour, tzinfo=rules.NEW_YORK))

    assert [hour for hour in range(24) if light(1, hour)] == list(range(8, 16))
    assert [hour for hour in range(24) if light(6, hour)] == list(range(6, 20))
    assert rules.is_light(datetime(2013, 1, 15, 13, tzinfo=UTC))  # 8 o'clock there
    assert not rules.is_light(datetime(2013, 1, 15, 12, tzinfo=UTC))


def test_an_alert_tells_each_change_and_nothing_else():
    watch = Watch(partition=1)
    hours = [FINE, FINE, but(rain_mm=2.0), but(temperature_c=0.0), FINE]
    alerts = []
    for offset, observation in enumerate(hours, start=40):
        at = NOON + timedelta(hours=offset - 40)
        alert = watch.observe(msgspec.structs.replace(observation, observed_at=at), offset)
        if alert is not None:
            alerts.append((alert.partition, alert.offset, alert.good, alert.text))
    assert alerts == [
        (1, 40, True, "good for a stroll: 18 °C, wind 10 km/h"),
        (1, 42, False, "no more (rain, 2.0 mm) after 2 h"),
        (1, 44, True, "good for a stroll: 18 °C, wind 10 km/h"),
    ]


def test_bad_weather_at_the_beginning_is_no_news():
    assert Watch(partition=0).observe(but(rain_mm=2.0), 0) is None


def test_stations_of_one_partition_are_told_apart():
    watch = Watch(partition=0)
    assert watch.observe(but(station="EWR"), 0) is not None
    assert watch.observe(but(station="JFK"), 1) is not None
    assert watch.observe(but(station="EWR"), 2) is None


def test_a_watch_goes_on_from_its_note_as_if_it_had_never_stopped(year):
    whole = Watch(partition=0)
    parted = Watch(partition=0)
    for offset, observation in enumerate(year):
        parted = Watch(partition=0, note=parted.note())
        assert len(parted.note()) < 4096  # what Kafka keeps beside an offset
        assert parted.observe(observation, offset) == whole.observe(observation, offset)


class HandClock:
    """Time that passes only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def hourly(count: int) -> list[Observation]:
    return [but(observed_at=NOON + timedelta(hours=hour)) for hour in range(count)]


def test_at_speed_3600_an_hour_takes_a_second():
    clock = HandClock()
    moments = [clock.now - 1000 for _ in paced(hourly(5), 3600, clock.monotonic, clock.sleep)]
    assert moments == [0, 1, 2, 3, 4]


def test_what_publishing_takes_is_made_up_for():
    clock = HandClock()
    moments = []
    for _ in paced(hourly(6), 3600, clock.monotonic, clock.sleep):
        moments.append(clock.now - 1000)
        clock.now += 2.5 if len(moments) == 1 else 0.25
    assert moments == [0, 2.5, 2.75, 3, 4, 5]


def test_observations_of_one_moment_go_out_together():
    clock = HandClock()
    together = [but(station=station) for station in STATIONS]
    assert list(paced(together, 3600, clock.monotonic, clock.sleep)) == together
    assert clock.slept == []


def test_without_a_speed_nothing_waits():
    clock = HandClock()
    assert list(paced(hourly(100), None, clock.monotonic, clock.sleep)) == hourly(100)
    assert clock.slept == []


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("250ms", 250), ("90s", 90_000), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000)],
)
def test_a_retention_is_a_number_with_a_unit(text, milliseconds):
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1.5h", "week", ""])
def test_anything_else_is_no_retention(text):
    with pytest.raises(ValueError):
        duration_ms(text)
