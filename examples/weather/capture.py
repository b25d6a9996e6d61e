"""Publishes observations to a topic, keyed by their station.

    python -m examples.weather.capture --speed 3600

An observation's own time stands in its value and in the header ``observed-at``; the record's time is that
of its publication, as for every event that is told later than it happened. The key brings all observations
of a station to one partition, so that who reads them gets them in order.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from examples.weather.observations import Observation, read_observations, to_json
from examples.weather.topic import OBSERVED_AT, TOPIC, ensure_topic
from ottla import KafkaError, Producer, RecordMetadata

PROGRESS_EVERY_S = 0.1
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def main(argv: Sequence[str] | None = None) -> int:
    """Publish what the arguments ask for; the exit code."""
    arguments = _arguments(argv)
    observations = read_observations()[: arguments.limit]
    progress = Progress(len(observations))
    try:
        ensure_topic(arguments.bootstrap, arguments.retention)
        with Producer(arguments.bootstrap, value_serializer=to_json) as producer:
            for observation in paced(observations, arguments.speed):
                publish(producer, observation, progress.count)
                progress.show(observation)
    except KafkaError as error:
        progress.error = error
    except KeyboardInterrupt:
        pass  # leaving the block above has sent what was taken
    progress.finish()
    return 1 if progress.error is not None or progress.published < len(observations) else 0


def paced(
    observations: Iterable[Observation],
    speed: float | None,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Observation]:
    """Give each observation when its time has come, ``speed`` times as fast as it was; None: at once."""
    began = now()
    first = None
    for observation in observations:
        if speed is not None:
            first = first or observation.observed_at
            due = began + (observation.observed_at - first).total_seconds() / speed
            if (early := due - now()) > 0:
                sleep(early)
        yield observation


def publish(
    producer: Producer,
    observation: Observation,
    on_delivery: Callable[[RecordMetadata | None, KafkaError | None], None] | None = None,
) -> None:
    """Hand one observation to the producer, which sends it in the background."""
    observed_at = observation.observed_at.isoformat().encode()
    producer.send(
        TOPIC,
        observation,
        key=observation.station,
        headers=[(OBSERVED_AT, observed_at)],
        on_delivery=on_delivery,
    )


class Progress:
    """Counts what the broker acknowledged, and shows it on a terminal."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.published = 0
        self.error: KafkaError | None = None
        self._began = time.monotonic()
        self._shown = 0.0

    def count(self, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        """What became of one record."""
        if error is None:
            self.published += 1
        else:
            self.error = error

    def show(self, observation: Observation) -> None:
        """Where it is, ten times a second, if somebody looks."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown >= PROGRESS_EVERY_S:
            self._shown = now
            at = f"{observation.observed_at:%Y-%m-%d %H:%M} UTC"
            line = f"\r{self.published:,} of {self.total:,} observations published, now {at} "
            print(line, end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """The last line."""
        if self._shown:
            print(file=sys.stderr)
        if self.error is not None:
            print(f"not all could be published: {self.error}", file=sys.stderr)
        took = time.monotonic() - self._began
        print(f"{self.published:,} of {self.total:,} observations published in {took:.1f} s")


def duration_ms(text: str) -> int:
    """Milliseconds of "90s", "12h" or "7d"; raises ``ValueError`` for anything else."""
    matched = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if matched is None:
        raise ValueError(f"not a duration: {text!r}")
    return int(matched[1]) * _UNITS_MS[matched[2]]


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise ValueError(f"not a speed: {text!r}")
    return speed


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="capture", description="Publish the observations of 2013 to weather.observations."
    )
    parser.add_argument("--bootstrap", help="where a broker is (default: localhost:9092)")
    parser.add_argument(
        "--speed", type=_speed, help="how much faster than life: 3600 is an hour a second"
    )
    parser.add_argument("--limit", type=int, help="publish so many observations only")
    parser.add_argument(
        "--retention", type=duration_ms, help="how long the topic keeps them: 90s, 12h, 7d"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
