"""The weather application against a real broker: each of its promises a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from examples.weather import capture, stroll, summary
from examples.weather.observations import Observation, from_json, read_observations, to_json
from examples.weather.stroll import Stroll
from examples.weather.topic import OBSERVED_AT, PARTITIONS, TOPIC, ensure_topic
from examples.weather.watch import Alert, Watch
from ottla import Admin, Consumer, Producer, Record, TopicPartition
from ottla.testing import Broker
from tests.support.waiting import DEADLINE_S, eventually

ROOT = Path(__file__).parents[2]
ALL = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]


@pytest.fixture(scope="module")
def year() -> list[Observation]:
    return read_observations()


# Helpers


def run_capture(broker: Broker, *arguments: str) -> int:
    return capture.main(["--bootstrap", broker.bootstrap, *arguments])


def publish(broker: Broker, observations: Iterable[Observation]) -> None:
    with Producer(broker.bootstrap, value_serializer=to_json) as producer:
        for observation in observations:
            capture.publish(producer, observation)


def read_topic(broker: Broker) -> list[Record]:
    """Everything that is in the topic now."""
    records: list[Record] = []
    with Consumer(bootstrap=broker.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(ALL)
        ends = consumer.end_offsets(*ALL)
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            records += consumer.poll(0.5)
    return records


def offsets(broker: Broker, which: str) -> dict[TopicPartition, int]:
    """The "earliest" or "latest" offsets of the partitions that have records."""
    with Admin(broker.bootstrap) as admin:
        found = admin.list_offsets(dict.fromkeys(ALL, which))
    return {partition: offset.offset for partition, offset in found.items() if offset is not None}


def wait_for_records(broker: Broker, count: int) -> None:
    def published() -> bool:
        return sum(offsets(broker, "latest").values()) >= count

    eventually(published, f"{count} observations are published")


def committed(broker: Broker) -> dict[TopicPartition, int]:
    with Admin(broker.bootstrap) as admin:
        return {p: found.offset for p, found in admin.group_offsets(stroll.GROUP).items()}


def wait_until_all_is_read(broker: Broker) -> None:
    ends = {partition: end for partition, end in offsets(broker, "latest").items() if end}
    eventually(lambda: committed(broker) == ends, f"the group has committed {ends}")


def expected_alerts(records: Iterable[Record]) -> list[Alert]:
    """What the records of the topic must make a stroll tell, computed without one."""
    watches: dict[int, Watch] = defaultdict(lambda: Watch(partition=-1))
    alerts = []
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        watches[record.partition].partition = record.partition
        alert = watches[record.partition].observe(from_json(record.value), record.offset)
        if alert is not None:
            alerts.append(alert)
    return alerts


def alerts_in(*files: Path) -> list[Alert]:
    return [
        msgspec.json.decode(line, type=Alert)
        for file in files
        for line in file.read_bytes().splitlines()
    ]


def in_order(alerts: Iterable[Alert]) -> list[Alert]:
    return sorted(alerts, key=lambda alert: (alert.partition, alert.offset))


class StrollProcess:
    """``python -m examples.weather.stroll`` with a file for its alerts."""

    def __init__(self, broker: Broker, name: str, alerts: Path) -> None:
        self.alerts = alerts
        arguments = ["--bootstrap", broker.bootstrap, "--name", name, "--alerts", str(alerts)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.weather.stroll", *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )

    def told(self) -> int:
        return self.alerts.read_bytes().count(b"\n") if self.alerts.exists() else 0

    def wait_for_alerts(self, count: int) -> None:
        eventually(lambda: self.told() >= count, f"{count} alerts")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> StrollProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            assert self.process.wait(DEADLINE_S) in (0, -signal.SIGKILL)
        finally:
            self.kill()


class StrollThread:
    """The same in this process."""

    def __init__(self, broker: Broker, alerts: Path, name: str | None = None) -> None:
        self.alerts = alerts
        self._stream = stroll.open_alerts(alerts)
        self.stroll = Stroll(broker.bootstrap, name, self._stream)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.stroll.run, args=(self._stop,))

    @property
    def partitions(self) -> set[int]:
        return {partition.partition for partition in list(self.stroll.watches)}

    def __enter__(self) -> StrollThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._stream.close()


# Capture


def test_each_observation_is_published_once_under_its_station(ottla_broker, year, capsys):
    before_ms = time.time_ns() // 1_000_000
    assert run_capture(ottla_broker) == 0
    after_ms = time.time_ns() // 1_000_000

    records = read_topic(ottla_broker)
    assert len(records) == len(year) == 26_115
    observations = [from_json(record.value) for record in records]
    assert sorted(observations, key=lambda o: (o.observed_at, o.station)) == year
    for record, observation in zip(records, observations, strict=True):
        assert record.key == observation.station.encode()
        assert record.header(OBSERVED_AT) == observation.observed_at.isoformat().encode()
        assert before_ms <= record.timestamp_ms <= after_ms  # when it was published
    assert "26,115 of 26,115 observations published" in capsys.readouterr().out


def test_a_station_stays_in_one_of_three_partitions_and_in_order(ottla_broker):
    assert run_capture(ottla_broker, "--limit", "3000") == 0
    with Admin(ottla_broker.bootstrap) as admin:
        assert len(admin.describe_topic(TOPIC).partitions) == 3
    times: dict[tuple[str, int], list[str]] = defaultdict(list)
    for record in read_topic(ottla_broker):
        observation = from_json(record.value)
        times[observation.station, record.partition].append(observation.observed_at.isoformat())
    assert sorted(station for station, _ in times) == ["EWR", "JFK", "LGA"]
    assert all(moments == sorted(moments) for moments in times.values())


def test_capture_goes_on_when_the_broker_is_restarted(tmp_path, year):
    count = 6_000
    with Broker(data=tmp_path) as broker:
        codes: list[int] = []
        arguments = ["--limit", str(count), "--speed", "5000000"]  # 2,000 hours in 1.4 s
        thread = threading.Thread(target=lambda: codes.append(run_capture(broker, *arguments)))
        ensure_topic(broker.bootstrap)
        thread.start()
        for part in (count // 6, count // 3):
            wait_for_records(broker, part)
            broker.restart()
        thread.join()
        assert codes == [0]
        found = Counter(from_json(record.value) for record in read_topic(broker))
    assert found == Counter(year[:count])


def test_retention_is_set_on_a_new_topic_and_on_one_that_is_there(ottla_broker):
    def retention() -> str | None:
        with Admin(ottla_broker.bootstrap) as admin:
            return admin.describe_config(topic=TOPIC)["retention.ms"].value

    assert run_capture(ottla_broker, "--limit", "1", "--retention", "7d") == 0
    assert retention() == "604800000"
    assert run_capture(ottla_broker, "--limit", "1") == 0
    assert retention() == "604800000"
    assert run_capture(ottla_broker, "--limit", "1", "--retention", "90s") == 0
    assert retention() == "90000"


HOUR_MS = 3_600_000


@pytest.mark.ottla({"log.retention.check.interval.ms": 50, "log.initial.task.delay.ms": 0})
def test_retention_removes_old_observations_with_nobody_cleaning_up(ottla_broker, year):
    ensure_topic(ottla_broker.bootstrap)
    with Admin(ottla_broker.bootstrap) as admin:
        admin.alter_config(topic=TOPIC, set={"segment.bytes": "65536"})
    now_ms = time.time_ns() // 1_000_000
    half = 1_500
    with Producer(ottla_broker.bootstrap, batch_size=8_192) as producer:
        for index, observation in enumerate(year[: 2 * half]):
            age_ms = 48 * HOUR_MS if index < half else 0
            producer.send(
                TOPIC,
                to_json(observation),
                key=observation.station,
                timestamp_ms=now_ms - age_ms,
            )
    assert len(read_topic(ottla_broker)) == 2 * half
    filled = [partition for partition, end in offsets(ottla_broker, "latest").items() if end]

    ensure_topic(ottla_broker.bootstrap, retention_ms=24 * HOUR_MS)

    def shortened() -> bool:
        starts = offsets(ottla_broker, "earliest")
        return all(starts[partition] > 0 for partition in filled)

    eventually(shortened, "the log start offsets move")
    kept = [from_json(record.value) for record in read_topic(ottla_broker)]
    assert half <= len(kept) < 2 * half
    assert set(year[half : 2 * half]) <= set(kept)


# Stroll


def test_a_stroll_killed_half_way_loses_nothing_and_repeats_no_committed_alert(
    ottla_broker, year, tmp_path
):
    alerts = tmp_path / "alerts.jsonl"
    ensure_topic(ottla_broker.bootstrap)
    publish(ottla_broker, year[:12_000])
    kills: list[tuple[int, dict[TopicPartition, int]]] = []
    for enough in (50, 200, 400):
        with StrollProcess(ottla_broker, "porch", alerts) as porch:
            porch.wait_for_alerts(enough)
            porch.kill()
        kills.append((porch.told(), committed(ottla_broker)))
    ends = {partition: end for partition, end in offsets(ottla_broker, "latest").items() if end}
    assert kills[-1][1] != ends, "it was killed too late for this test"
    publish(ottla_broker, year[12_000:16_000])
    with StrollProcess(ottla_broker, "porch", alerts):
        wait_until_all_is_read(ottla_broker)

    told = alerts_in(alerts)
    assert in_order(set(told)) == expected_alerts(read_topic(ottla_broker))
    for count, saved in kills:
        told_later = told[count:]
        repeated = [a for a in told_later if a.offset < saved.get((TOPIC, a.partition), 0)]
        assert repeated == []


def test_a_stroll_that_is_stopped_and_started_again_repeats_nothing(ottla_broker, year, tmp_path):
    alerts = tmp_path / "alerts.jsonl"
    ensure_topic(ottla_broker.bootstrap)
    for part in (year[:9_001], year[9_001:9_777]):
        publish(ottla_broker, part)
        with StrollThread(ottla_broker, alerts):
            wait_until_all_is_read(ottla_broker)
    assert in_order(alerts_in(alerts)) == expected_alerts(read_topic(ottla_broker))


def test_a_line_that_a_kill_tore_is_cut_off(tmp_path):
    alerts = tmp_path / "alerts.jsonl"
    torn = '{"text":"12 °C"}\n{"text":"9 °'.encode()[:-1]  # in the middle of a character
    alerts.write_bytes(torn)
    with stroll.open_alerts(alerts) as stream:
        stream.write("next\n")
    assert alerts.read_text() == '{"text":"12 °C"}\nnext\n'


def wait_until_they_share(porch: StrollThread, garden: StrollThread) -> None:
    def share() -> bool:
        both = [porch.partitions, garden.partitions]
        return all(both) and sorted([*both[0], *both[1]]) == [0, 1, 2]

    eventually(share, "two strolls share the partitions")


def test_two_strolls_share_the_stations(ottla_broker, year, tmp_path, capsys):
    ensure_topic(ottla_broker.bootstrap)
    files = [tmp_path / "porch.jsonl", tmp_path / "garden.jsonl"]
    with StrollThread(ottla_broker, files[0]) as porch:
        eventually(lambda: porch.partitions == {0, 1, 2}, "one alone watches all")
        with StrollThread(ottla_broker, files[1]) as garden:
            wait_until_they_share(porch, garden)
            publish(ottla_broker, year[:14_000])
            wait_until_all_is_read(ottla_broker)
    stations = [{alert.station for alert in alerts_in(file)} for file in files]
    assert sorted(map(sorted, stations)) == [["EWR", "JFK"], ["LGA"]]
    assert in_order(alerts_in(*files)) == expected_alerts(read_topic(ottla_broker))


def test_who_takes_over_a_station_knows_what_its_last_reader_knew(
    ottla_broker, year, tmp_path, capsys
):
    ensure_topic(ottla_broker.bootstrap)
    files = [tmp_path / "porch.jsonl", tmp_path / "garden.jsonl"]
    noon = next(
        i for i, o in enumerate(year) if o.observed_at.isoformat() > "2013-09-04T16:00:00+00:00"
    )
    with StrollThread(ottla_broker, files[0]) as porch:
        with StrollThread(ottla_broker, files[1]) as garden:
            wait_until_they_share(porch, garden)
            publish(ottla_broker, year[noon - 2_000 : noon])
            wait_until_all_is_read(ottla_broker)
        publish(ottla_broker, year[noon : noon + 2_000])
        wait_until_all_is_read(ottla_broker)
        assert porch.partitions == {0, 1, 2}
    alerts = expected_alerts(read_topic(ottla_broker))
    assert in_order(alerts_in(*files)) == alerts
    so_far = {a.station: a.good for a in alerts if a.observed_at < year[noon].observed_at}
    assert so_far == {"EWR": True, "JFK": True, "LGA": True}  # strolls were under way at noon


# Summary


def test_a_second_group_reads_the_same_stream_from_the_beginning(
    ottla_broker, year, tmp_path, capsys
):
    count = 12_000
    assert run_capture(ottla_broker, "--limit", str(count)) == 0
    with StrollThread(ottla_broker, tmp_path / "alerts.jsonl"):
        wait_until_all_is_read(ottla_broker)
    read_by_stroll = committed(ottla_broker)
    capsys.readouterr()

    assert summary.main(["--bootstrap", ottla_broker.bootstrap]) == 0
    assert capsys.readouterr().out == summary.chart(summary.summarise(year[:count])) + "\n"
    again = summary.read_all(ottla_broker.bootstrap)
    assert sorted(again, key=lambda o: (o.observed_at, o.station)) == year[:count]
    assert committed(ottla_broker) == read_by_stroll


def test_a_summary_of_nothing_says_so(ottla_broker, capsys):
    assert summary.main(["--bootstrap", ottla_broker.bootstrap]) == 0
    assert capsys.readouterr().out == "weather.observations has no observations yet\n"


# All of it


def test_the_demonstration_runs_to_its_end_and_leaves_nothing_behind(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "examples.weather.demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "No observation was lost or doubled" in ran.stdout
    assert "2013-08" in ran.stdout
    assert list(tmp_path.iterdir()) == []
    assert processes_with(str(tmp_path)) == []


def processes_with(text: str) -> list[str]:
    """The command lines of this machine's processes in which ``text`` stands (Linux)."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if text in command:
            found.append(command)
    return found
