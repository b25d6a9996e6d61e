"""Tells when the weather is good for a stroll, and when it stops being so.

    python -m examples.weather.stroll

A member of the consumer group ``stroll``: start several, and they share the stations. For each batch of
observations it first tells the alerts and then commits, in one step, how far it has read and what it
knew then (see ``watch``). Killed at any moment, it goes on from its last commit: no observation is lost, no
alert that was committed is told again, and an alert that was not carries the same partition and offset when it is
told a second time.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

import msgspec

from examples.weather.observations import from_json
from examples.weather.topic import TOPIC, ensure_topic
from examples.weather.watch import Alert, Watch
from ottla import CommitFailed, Consumer, KafkaError, OffsetAndMetadata, Record, TopicPartition

GROUP = "stroll"
POLL_S = 0.2


class Stroll:
    """One member of the group, with a watch over each partition that it has been given."""

    def __init__(
        self, bootstrap: str | None = None, name: str | None = None, alerts: TextIO | None = None
    ) -> None:
        """``name`` makes it a static member; ``alerts`` takes each alert as a line of JSON."""
        self._name = name or GROUP
        self._alerts = alerts
        self.watches: dict[TopicPartition, Watch] = {}
        """What this member knows, by the partitions that it has now."""
        self._consumer = Consumer(
            group=GROUP,
            bootstrap=bootstrap,
            group_instance_id=name,  # started again in time, it has its partitions back at once
            session_timeout_ms=6_000,  # else the others get them after this
            heartbeat_interval_ms=1_000,
            assignors=[
                "roundrobin"
            ],  # partitions in turn; by ranges, one of two would get all stations
            auto_offset_reset="earliest",  # a new group begins with the oldest observation
            enable_auto_commit=False,
            value_deserializer=from_json,
        )

    def run(self, stop: threading.Event) -> None:
        """Read, judge, tell and commit, batch by batch, until told to stop."""
        with self._consumer as consumer:
            consumer.subscribe([TOPIC], on_assigned=self._take, on_revoked=self._give_up)
            while not stop.is_set():
                records = consumer.poll(POLL_S)
                if records:
                    self._handle(records)

    def _handle(self, records: Iterable[Record]) -> None:
        next_offsets: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            alert = self.watches[partition].observe(record.value, record.offset)
            if alert is not None:
                self._tell(alert)
            next_offsets[partition] = record.offset + 1
        self._flush()  # first tell, then commit: a crash in between repeats, and loses nothing
        try:
            self._consumer.commit(
                {
                    partition: OffsetAndMetadata(offset, self.watches[partition].note())
                    for partition, offset in next_offsets.items()
                }
            )
        except CommitFailed as error:
            # It was away for too long and others have its partitions. The next poll joins again, and
            # what it is given then starts from what was committed.
            print(f"{self._name}: {error}", file=sys.stderr)

    def _take(self, partitions: list[TopicPartition]) -> None:
        """A rebalance gave us these: go on with what their last reader knew."""
        for partition, committed in self._consumer.committed(*partitions).items():
            note = committed.metadata if committed is not None else ""
            self.watches[partition] = Watch(partition.partition, note)
        self._say(f"watches partitions {sorted(p.partition for p in self.watches)}")

    def _give_up(self, partitions: list[TopicPartition]) -> None:
        """A rebalance takes these; all that we know of them is committed."""
        for partition in partitions:
            self.watches.pop(partition, None)

    def _tell(self, alert: Alert) -> None:
        print(alert)
        if self._alerts is not None:
            self._alerts.write(msgspec.json.encode(alert).decode() + "\n")

    def _flush(self) -> None:
        sys.stdout.flush()
        if self._alerts is not None:
            self._alerts.flush()

    def _say(self, text: str) -> None:
        print(f"{self._name} {text}", flush=True)


def open_alerts(path: Path) -> TextIO:
    """A file to append alerts to, for one stroll.

    A last line that a kill tore is cut off: its batch was not committed, so its alerts are told again.
    """
    path.touch()
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    return path.open("a", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Stroll until SIGTERM or Ctrl-C; the exit code."""
    arguments = _arguments(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        ensure_topic(arguments.bootstrap)
        with open_alerts(arguments.alerts) if arguments.alerts else nullcontext() as alerts:
            Stroll(arguments.bootstrap, arguments.name, alerts).run(stop)
    except KafkaError as error:
        print(f"stroll: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stroll", description="Tell when the weather is good for a stroll."
    )
    parser.add_argument("--bootstrap", help="where a broker is (default: localhost:9092)")
    parser.add_argument(
        "--name", help="who this is: started again, it has its stations back at once"
    )
    parser.add_argument("--alerts", type=Path, help="append each alert to this file, a JSON a line")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
