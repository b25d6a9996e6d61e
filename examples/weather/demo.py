"""The weather application from end to end: real processes, one of them killed half-way, in a few seconds.

    make demo        (or: python -m examples.weather.demo)

It starts a broker in a temporary directory, two strolls and a capture, kills one stroll half-way, starts it
again, and holds what the strolls told against the data itself. Then another group reads the same
stream for the summary. Nothing is left behind; the exit code is 0 if all of it was right.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import TypeVar

import msgspec

from examples.weather.observations import Observation, read_observations
from examples.weather.stroll import GROUP
from examples.weather.topic import PARTITIONS, TOPIC, ensure_topic
from examples.weather.watch import Alert, Watch
from ottla import Admin, KafkaError, TopicPartition

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
PAUSE_S = 0.005
ALERTS_SHOWN = 6
WATCHES = r"watches partitions \[(.*)\]"
"""What a stroll says when it is given partitions."""

T = TypeVar("T")


class DemoFailed(Exception):
    """What should have happened did not."""


class Program:
    """One process of the demonstration; what it says goes to a file beside it."""

    def __init__(self, name: str, directory: Path, *arguments: str) -> None:
        self.name = name
        self._said = directory / f"{name}.txt"
        with self._said.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def said(self) -> str:
        """All that it has printed so far."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def last(self, pattern: str) -> str:
        """The first group of the last match in what it has printed; empty for no match."""
        found = re.findall(pattern, self.said)
        return found[-1] if found else ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in what it prints; raises ``DemoFailed`` if it ends before that."""

        def look() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.said)
            if ended and found is None:
                raise DemoFailed(f"{self.name} ended: {self.said}")
            return found

        return until(look, f"{self.name} says {pattern!r}")

    def finish(self) -> str:
        """Wait for its end; raises ``DemoFailed`` unless its exit code is 0."""
        if self.process.wait(DEADLINE_S):
            raise DemoFailed(f"{self.name} failed: {self.said}")
        return self.said

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and see to it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def until(condition: Callable[[], T | None], what: str) -> T:
    """The first truthy answer of ``condition``; raises ``DemoFailed`` if the deadline comes first."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited {DEADLINE_S:.0f} s in vain: {what}")
        time.sleep(PAUSE_S)
    return answer


class Told:
    """The alerts that the strolls told, out of their files, and what the data says they should be."""

    def __init__(self, files: Iterable[Path]) -> None:
        lines = [line for file in files for line in file.read_bytes().splitlines()]
        self.alerts = [msgspec.json.decode(line, type=Alert) for line in lines]
        self.alerts.sort(key=lambda alert: (alert.observed_at, alert.station))

    def repeated(self) -> list[Alert]:
        """Alerts that were told more than once: the same partition and offset as one before."""
        seen: set[tuple[int, int]] = set()
        again = []
        for alert in self.alerts:
            place = (alert.partition, alert.offset)
            if place in seen:
                again.append(alert)
            seen.add(place)
        return again

    def differences(self, expected: set[Change]) -> int:
        """How many alerts are missing, and how many should not be there."""
        told = {change_of(alert) for alert in self.alerts}
        return len(told ^ expected)


Change = tuple[str, str, str]
"""What an alert says: its station, its time and its text."""


def change_of(alert: Alert) -> Change:
    """What an alert says, wherever it was in the topic."""
    return alert.station, alert.observed_at.isoformat(), alert.text


def expected_changes(observations: Iterable[Observation]) -> set[Change]:
    """The changes that anybody sees who reads the file from top to bottom."""
    watch = Watch(partition=0)
    alerts = (watch.observe(observation, offset) for offset, observation in enumerate(observations))
    return {change_of(alert) for alert in alerts if alert is not None}


class Demo:
    """The processes, in the order of the story."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._address = ""
        self._observations = read_observations()
        self._expected = expected_changes(self._observations)

    def run(self) -> None:
        """Tell the story; raises ``DemoFailed`` where it goes otherwise."""
        self._start_broker()
        strolls = self._start_strolls("porch", "garden")
        capture = self._start("capture", "examples.weather.capture", *self._bootstrap)
        name = self._half_way(strolls)
        strolls[name].process.kill()
        strolls[name].process.wait()
        committed = self._committed()
        read = sum(committed.values())
        print(f"4. {name} is killed (SIGKILL); the group has read {read:,} observations by now.")
        strolls[name] = self._start_stroll(name)
        print(f"   Capture says: {capture.finish().strip()}.")
        strolls[name].wait_for(WATCHES)
        ends = self._wait_until_all_is_read()
        for stroll in strolls.values():
            stroll.stop()
        print(f"   {name} is started again; the group has read all {sum(ends.values()):,} now.")
        self._check(Told(map(self._alerts_of, strolls)), committed, ends)
        summary = self._start("summary", "examples.weather.summary", *self._bootstrap)
        print(f"6. Another group reads the same stream:\n{summary.finish()}")

    def _start_broker(self) -> None:
        data = str(self._directory / "data")
        broker = self._start("broker", "ottla", "serve", "--listen", "127.0.0.1:0", "--data", data)
        self._address = broker.wait_for(r"ready: .* on ([^\s,]+)")[1]
        ensure_topic(self._address)
        print(f"1. A broker on {self._address}, with the topic {TOPIC}: {PARTITIONS} partitions.")

    def _start_strolls(self, *names: str) -> dict[str, Program]:
        strolls = {name: self._start_stroll(name) for name in names}

        def shares() -> dict[str, str] | None:
            found = {name: stroll.last(WATCHES) for name, stroll in strolls.items()}
            watched = sorted(re.findall(r"\d+", ", ".join(found.values())))
            return found if all(found.values()) and watched == ["0", "1", "2"] else None

        found = until(shares, "the strolls share the partitions")
        shared = ", ".join(f"{name} watches {share}" for name, share in found.items())
        print(f"2. Two strolls, one group: {shared}.")
        return strolls

    def _half_way(self, strolls: dict[str, Program]) -> str:
        print("3. Capture publishes a year of observations, as fast as it goes.")
        enough = len(self._expected) // 4

        def busiest() -> str | None:
            for name in strolls:
                if self._alerts_of(name).read_bytes().count(b"\n") >= enough:
                    return name
            return None

        return until(busiest, f"a stroll has told {enough} alerts")

    def _wait_until_all_is_read(self) -> dict[TopicPartition, int]:
        with Admin(self._address) as admin:
            found = admin.list_offsets({(TOPIC, number): "latest" for number in range(PARTITIONS)})
        ends = {partition: end.offset for partition, end in found.items() if end and end.offset}
        until(lambda: self._committed() == ends, "the group has read everything")
        return ends

    def _check(
        self,
        told: Told,
        committed: dict[TopicPartition, int],
        ends: dict[TopicPartition, int],
    ) -> None:
        lost_or_doubled = sum(ends.values()) - len(self._observations)
        again = told.repeated()
        repeated = [
            alert
            for alert in again
            if alert.offset < committed.get(TopicPartition(TOPIC, alert.partition), 0)
        ]
        differences = told.differences(self._expected)
        if lost_or_doubled or repeated or differences:
            raise DemoFailed(
                f"{lost_or_doubled} observations too many or too few, {differences} alerts missing or "
                f"wrong, {len(repeated)} committed alerts told again"
            )
        print(f"5. {len(self._expected):,} alerts, as they follow from the data; among them:")
        for alert in told.alerts[:: len(told.alerts) // ALERTS_SHOWN][:ALERTS_SHOWN]:
            print(f"     {alert}")
        print(
            "   No observation was lost or doubled; no committed alert was told again "
            f"({len(again)} that were not committed yet were)."
        )

    def _committed(self) -> dict[TopicPartition, int]:
        with Admin(self._address) as admin:
            offsets = admin.group_offsets(GROUP)
        return {partition: committed.offset for partition, committed in offsets.items()}

    @property
    def _bootstrap(self) -> tuple[str, str]:
        return "--bootstrap", self._address

    def _alerts_of(self, name: str) -> Path:
        return self._directory / f"alerts-{name}.jsonl"

    def _start_stroll(self, name: str) -> Program:
        alerts = str(self._alerts_of(name))
        return self._start(
            name, "examples.weather.stroll", *self._bootstrap, "--name", name, "--alerts", alerts
        )

    def _start(self, name: str, module: str, *arguments: str) -> Program:
        program = Program(name, self._directory, module, *arguments)
        self._stack.callback(program.stop)
        return program


def main() -> int:
    """Run the demonstration; the exit code."""
    began = time.monotonic()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # to be followed through a pipe, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of the clean-up below
    try:
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ottla-weather-"))
            Demo(Path(directory), stack).run()
    except (DemoFailed, KafkaError) as error:
        print(f"The demonstration failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"All of it in {time.monotonic() - began:.0f} s; everything is stopped and removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
