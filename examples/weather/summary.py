"""A month a line, out of the same stream: temperature, rain, and the hours that were good for a stroll.

    python -m examples.weather.summary

Each run is a consumer group of its own that commits nothing: it reads all observations that the topic still has,
from the oldest to the end that the topic had when the run began. Other groups do not notice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from secrets import token_hex

from examples.weather.observations import Observation, from_json
from examples.weather.rules import NEW_YORK, objections
from examples.weather.topic import TOPIC, ensure_topic
from ottla import Consumer, KafkaError, TopicPartition

POLL_S = 0.2
CHART_COLUMNS = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(slots=True)
class Month:
    """What is known of one month, over all stations."""

    temperatures_c: list[float] = field(default_factory=list)
    rain_mm: float = 0.0
    good_hours: int = 0
    stations: set[str] = field(default_factory=set)

    def add(self, observation: Observation) -> None:
        """Count one observation."""
        self.stations.add(observation.station)
        if observation.temperature_c is not None:
            self.temperatures_c.append(observation.temperature_c)
        self.rain_mm += observation.rain_mm or 0.0
        self.good_hours += not objections(observation)

    @property
    def good_hours_a_station(self) -> float:
        """Hours good for a stroll, as one station sees them."""
        return self.good_hours / len(self.stations)


Months = dict[tuple[int, int], Month]
"""By year and month, in New York's time."""


def summarise(observations: Iterable[Observation]) -> Months:
    """The months of these observations, in their order."""
    months: Months = {}
    for observation in observations:
        local = observation.observed_at.astimezone(NEW_YORK)
        months.setdefault((local.year, local.month), Month()).add(observation)
    return dict(sorted(months.items()))


def chart(months: Months) -> str:
    """A line a month, with a bar for the hours that were good for a stroll."""
    lines = ["           mean     min     max     rain   good for a stroll"]
    most = max((month.good_hours_a_station for month in months.values()), default=0.0)
    for (year, number), month in months.items():
        temperatures = month.temperatures_c
        mean = sum(temperatures) / len(temperatures) if temperatures else float("nan")
        hours = month.good_hours_a_station
        lines.append(
            f"{year}-{number:02}"
            f"  {mean:5.1f} °C {min(temperatures, default=mean):5.1f} °C"
            f" {max(temperatures, default=mean):5.1f} °C"
            f" {month.rain_mm / len(month.stations):4.0f} mm"
            f"  {hours:4.0f} h {_bar(hours / most if most else 0.0)}".rstrip()
        )
    return "\n".join(lines)


def _bar(share: float) -> str:
    eighths = round(share * CHART_COLUMNS * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def read_all(bootstrap: str | None = None, group: str | None = None) -> Iterator[Observation]:
    """Every observation that the topic has now, from the oldest on."""
    with Consumer(
        TOPIC,
        group=group or f"summary-{token_hex(4)}",
        bootstrap=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        value_deserializer=from_json,
    ) as consumer:
        partitions = [TopicPartition(TOPIC, n) for n in range(consumer.partitions_for(TOPIC))]
        ends = consumer.end_offsets(*partitions)

        def at_the_end() -> bool:
            given = consumer.assignment()  # empty until the first polls have joined the group
            return all(p in given and consumer.position(p) >= ends[p] for p in partitions)

        while not at_the_end():
            for record in consumer.poll(POLL_S):
                yield record.value


def main(argv: Sequence[str] | None = None) -> int:
    """Read the stream once and print the summary; the exit code."""
    parser = argparse.ArgumentParser(
        prog="summary", description="Summarise the observations, a month a line."
    )
    parser.add_argument("--bootstrap", help="where a broker is (default: localhost:9092)")
    arguments = parser.parse_args(argv)
    try:
        ensure_topic(arguments.bootstrap)
        months = summarise(read_all(arguments.bootstrap))
    except KafkaError as error:
        print(f"summary: {error}", file=sys.stderr)
        return 1
    print(chart(months) if months else f"{TOPIC} has no observations yet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
