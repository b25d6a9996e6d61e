"""``ottla log verify`` and ``ottla log salvage`` on what brokers wrote, with damage planted in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree

import pytest

from ottla import Consumer, KafkaError, Producer, TopicPartition
from ottla.errors import ErrorCode
from ottla.log.verification.walk import CHUNK_BYTES
from ottla.testing import Broker
from tests.cli.conftest import Done, Ottla, plant_other_topic_id
from tests.cli.conftest import Ottla as Run
from tests.support.waiting import eventually

SETTINGS = {"log.segment.bytes": 2_000, "log.index.interval.bytes": 100}
RECORDS = 40


def _produce(bootstrap: str, topic: str, count: int, *, size: int = 50) -> None:
    with Producer(bootstrap, linger_ms=0) as producer:
        for number in range(count):
            producer.send(topic, f"{number:0{size}}").result()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What a broker leaves after a clean stop: ``t`` has several segments, ``other`` one."""
    path = tmp_path / "data"
    with Broker(SETTINGS, data=path) as broker:
        _produce(broker.bootstrap, "t", RECORDS)
        _produce(broker.bootstrap, "other", 3)
    return path


def _segments(data: Path, suffix: str = ".log") -> list[Path]:
    return sorted((data / "t-0").glob(f"*{suffix}"))


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def _kinds(done: Done) -> dict[str, str]:
    """Severity by kind, of all findings."""
    document = done.json
    findings = [
        finding
        for holder in (*document["partitions"], *document["directories"])
        for finding in holder["findings"]
    ]
    return {finding["kind"]: finding["severity"] for finding in findings}


def test_what_a_broker_leaves_is_sound_and_is_left_as_it_is(run: Run, data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    done = run("log", "verify", str(data), "--deep")
    assert done.code == 0, done.out
    assert done.lines[-1].startswith("2 partitions, 43 batches, ")
    assert done.lines[-1].endswith(": all sound")
    assert "stop was clean" in done.out
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_what_a_running_broker_has_is_sound(ottla: Ottla, ottla_broker: Broker) -> None:
    _produce(ottla_broker.bootstrap, "t", 20)
    done = ottla("log", "verify", str(ottla_broker.data), "--deep", "-o", "json")
    assert done.code == 0, done.out
    (directory,) = done.json["directories"]
    assert (directory["standing"], directory["process"]) == ("running", os.getpid())
    _produce(ottla_broker.bootstrap, "t", 1)  # looking at the lock has not given it up
    assert ottla("log", "verify", str(ottla_broker.data)).code == 0


def test_room_ahead_of_synced_records_is_no_damage(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    copy = tmp_path / "copy"
    with Broker({"durability": "disk"}, data=data) as broker:
        _produce(broker.bootstrap, "t", 20)
        segment = _segments(data)[0]
        assert segment.read_bytes().endswith(bytes(1000))
        assert run("log", "verify", str(data), "--deep").code == 0
        assert run("log", "verify", str(segment), "--deep").code == 0
        assert len(run("log", "dump", str(segment)).lines) == 20
        copytree(data, copy)  # as a kill leaves it
    done = run("log", "verify", str(copy), "-o", "json")
    assert done.code == 0, done.out
    assert _kinds(done) == {}
    assert not segment.read_bytes().endswith(bytes(1000))


def test_a_log_that_grows_meanwhile_is_sound(ottla: Ottla, ottla_broker: Broker) -> None:
    with Producer(ottla_broker.bootstrap) as producer:
        first = producer.send("t", "x" * 1000)
        first.result()
        for _ in range(20):
            for _ in range(50):
                last = producer.send("t", "x" * 1000)
            done = ottla("log", "verify", str(ottla_broker.data), "-o", "json")
            assert done.code == 0, done.out
        last.result()


def test_a_batch_larger_than_what_is_read_at_once_is_checked(
    ottla_broker: Broker, run: Run
) -> None:
    settings = ("--set", "max.message.bytes=9000000", "-b", ottla_broker.bootstrap)
    assert run("topic", "create", "t", *settings).code == 0
    with Producer(ottla_broker.bootstrap, max_request_size=9_000_000) as producer:
        producer.send("t", b"x" * (3 * CHUNK_BYTES)).result()
        producer.send("t", b"y").result()
    segment = ottla_broker.data / "t-0" / f"{0:020}.log"
    assert run("log", "verify", str(segment), "--deep").code == 0
    _flip(segment, 2 * CHUNK_BYTES)
    done = run("log", "verify", str(segment), "-o", "json")
    assert done.code == 1
    assert _kinds(done) == {"checksum": "damage"}


def _plant_checksum(data: Path) -> None:
    _flip(_segments(data)[1], 100)


def _plant_size(data: Path) -> None:
    segment = _segments(data)[1]
    content = bytearray(segment.read_bytes())
    content[8:12] = b"\x7f\xff\xff\xff"
    segment.write_bytes(content)


def _plant_order(data: Path) -> None:
    segment = _segments(data)[1]
    content = bytearray(segment.read_bytes())
    content[0:8] = bytes(8)  # the base offset is not in the checksum
    segment.write_bytes(content)


def _plant_epoch(data: Path) -> None:
    segment = _segments(data)[1]
    content = bytearray(segment.read_bytes())
    content[12:16] = b"\0\0\0\x09"
    segment.write_bytes(content)


def _plant_gap(data: Path) -> None:
    for suffix in (".log", ".index", ".timeindex"):
        _segments(data, suffix)[1].unlink()


def _plant_lost_end(data: Path) -> None:
    segment = _segments(data)[-1]
    size = segment.stat().st_size
    os.truncate(segment, size // 2 + 10)


def _plant_index(data: Path) -> None:
    _flip(_segments(data, ".index")[0], 7)


def _plant_index_offset(data: Path) -> None:
    _flip(_segments(data, ".index")[0], 3)


def _plant_odd_index(data: Path) -> None:
    path = _segments(data, ".timeindex")[0]
    path.write_bytes(path.read_bytes() + b"abc")


def _plant_time_index(data: Path) -> None:
    _flip(_segments(data, ".timeindex")[0], 6)


def _plant_no_index(data: Path) -> None:
    _segments(data, ".index")[0].unlink()


def _plant_snapshot(data: Path) -> None:
    _flip(_segments(data, ".snapshot")[0], 12)


def _plant_epochs(data: Path) -> None:
    (data / "t-0" / "leader-epoch-checkpoint").write_text("0\n2\n5 0\n3 7\n")


def _plant_checkpoint(data: Path) -> None:
    (data / "recovery-point-offset-checkpoint").write_text("0\n7\nnonsense\n")


def _plant_meta(data: Path) -> None:
    (data / "meta.properties").write_text("version=9\n")


@pytest.mark.parametrize(
    ("plant", "kind", "severity"),
    [
        (_plant_checksum, "checksum", "damage"),
        (_plant_size, "batch", "damage"),
        (_plant_order, "order", "damage"),
        (_plant_epoch, "epoch", "damage"),
        (_plant_gap, "gap", "damage"),
        (_plant_lost_end, "batch", "damage"),
        (_plant_index, "index", "fault"),
        (_plant_index_offset, "index", "fault"),
        (_plant_odd_index, "index", "fault"),
        (_plant_time_index, "index", "fault"),
        (_plant_no_index, "index", "fault"),
        (_plant_snapshot, "snapshot", "fault"),
        (_plant_epochs, "epochs", "fault"),
        (plant_other_topic_id, "metadata", "fault"),
        (_plant_checkpoint, "checkpoint", "fault"),
        (_plant_meta, "meta.properties", "damage"),
    ],
)
def test_damage_is_found(
    run: Run, data: Path, plant: Callable[[Path], None], kind: str, severity: str
) -> None:
    plant(data)
    done = run("log", "verify", str(data), "-o", "json")
    assert done.code == 1
    assert _kinds(done).get(kind) == severity, done.out
    done = run("log", "verify", str(data))
    assert done.code == 1
    assert f"{severity}: " in done.out


def test_a_log_that_lost_whole_batches_at_its_end_is_found(run: Run, data: Path) -> None:
    for suffix in (".log", ".index", ".timeindex"):
        _segments(data, suffix)[-1].unlink()
    assert _kinds(run("log", "verify", str(data), "-o", "json"))["end"] == "damage"


def test_records_inside_a_batch_are_looked_at_on_request(run: Run, data: Path) -> None:
    from ottla.records.batch import pack_header, read_header

    segment = _segments(data)[0]
    content = bytearray(segment.read_bytes())
    content[61] = 0xFF  # the first record's length; the checksum is made right again
    pack_header(content, read_header(content))
    segment.write_bytes(content)
    assert run("log", "verify", str(data)).code == 0
    done = run("log", "verify", str(data), "--deep", "-o", "json")
    assert done.code == 1
    assert _kinds(done) == {"records": "damage"}


def test_a_sequence_that_comes_twice_is_found(run: Run, data: Path) -> None:
    import struct

    from ottla.records.batch import pack_header, read_header

    segment = _segments(data)[0]
    content = bytearray(segment.read_bytes())
    second = read_header(content).size_bytes
    header = read_header(content, second)
    struct.pack_into(">i", content, second + 53, 0)  # the first batch's sequence
    pack_header(content, read_header(content, second), second)
    assert header.base_sequence == 1
    segment.write_bytes(content)
    done = run("log", "verify", str(data))
    assert done.code == 1
    assert "are there twice, first at offset 0" in done.out


def test_a_torn_tail_after_a_crash_is_no_damage(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with _killed(data) as bootstrap:
        _produce(bootstrap, "t", 10)
    segment = _segments(data)[-1]
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[:100])
    done = run("log", "verify", str(data), "-o", "json")
    assert done.code == 0, done.out
    assert _kinds(done)["tail"] == "note"
    assert done.json["directories"][0]["standing"] == "unclean"

    segment.write_bytes(whole[:100] + b"?" + whole[101:])  # and what follows it is whole
    done = run("log", "verify", str(data), "-o", "json")
    assert done.code == 1
    assert _kinds(done)["torn"] == "damage"


class _killed:
    """A broker process that is killed at the end."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ottla",
                "serve",
                "--data",
                str(self._data),
                "--listen",
                "127.0.0.1:0",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return line.partition(" on ")[2].partition(",")[0]

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


def test_several_processes_find_the_same(run: Run, data: Path) -> None:
    _plant_checksum(data)
    alone = run("log", "verify", str(data), "-o", "json")
    together = run("log", "verify", str(data), "-o", "json", "--jobs", "2")
    assert together.code == 1
    assert together.json == alone.json


def test_what_is_no_log_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nothing", data / "meta.properties"):
        done = run("log", "verify", str(path))
        assert done.code == 1
        assert str(path) in done.err
        assert done.err.count("\n") == 1
    assert run("log", "verify", "--jobs", "0").code == 2


# Quarantine and the way out


def _read(bootstrap: str, topic: str, count: int) -> list[int]:
    """The offsets of the first ``count`` records."""
    offsets: list[int] = []
    with Consumer(topic, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        for record in consumer:
            offsets.append(record.offset)
            if len(offsets) == count:
                break
    return offsets


def _refused(broker: Broker) -> ErrorCode | None:
    """What a request for ``t`` is answered with; None if it is served."""
    assert broker.server is not None
    try:
        broker.server.replicas.leader_of("t", 0)
    except KafkaError as error:
        return error.code
    return None


def _produced(bootstrap: str) -> bool:
    """Whether a record to ``t`` is taken."""
    with Producer(bootstrap, delivery_timeout_ms=300, request_timeout_ms=200) as producer:
        try:
            producer.send("t", "new", partition=0).result()
        except KafkaError:
            return False
    return True


def test_a_quarantined_partition_is_not_served_and_is_back_after_a_salvage(
    run: Run, data: Path
) -> None:
    _plant_checksum(data)
    done = run("log", "verify", str(data), "--quarantine")
    assert done.code == 1
    assert "quarantined; the broker leaves it out when it starts" in done.out
    assert "checksum" in (data / "t-0" / "quarantined").read_text()
    stop = json.loads((data / ".kafka_cleanshutdown").read_text())
    assert stop["notClosed"] == ["t-0"], "what comes in its place may be a backup"
    with Broker(SETTINGS, data=data) as broker:
        assert _refused(broker) is ErrorCode.KAFKA_STORAGE_ERROR
        assert not _produced(broker.bootstrap)
        assert _read(broker.bootstrap, "other", 3) == [0, 1, 2]
        assert run("log", "salvage", str(data / "t-0")).code == 1  # the broker is running
    done = run("log", "salvage", str(data / "t-0"))
    assert done.code == 0, done.err
    (lost,) = [line.split()[2::2] for line in done.lines if "lost" in line]
    missing = int(lost[0])
    assert not (data / "t-0" / "quarantined").exists()
    with Broker(SETTINGS, data=data) as broker:
        assert _read(broker.bootstrap, "other", 3) == [0, 1, 2]
        kept = [offset for offset in range(RECORDS) if offset != missing]
        assert _read(broker.bootstrap, "t", RECORDS - 1) == kept
        with Producer(broker.bootstrap) as producer:
            assert producer.send("t", "new").result().offset == RECORDS
    done = run("log", "verify", str(data), "-o", "json")
    assert done.code == 0, done.out
    assert _kinds(done) == {"salvaged": "note"}


def test_a_salvage_of_the_logs_end_gives_no_offset_twice(run: Run, data: Path) -> None:
    _plant_lost_end(data)
    done = run("log", "salvage", str(data / "t-0"), "-o", "json")
    assert done.code == 0
    assert done.json["end_offset"] == RECORDS
    with Broker(SETTINGS, data=data) as broker, Producer(broker.bootstrap) as producer:
        assert producer.send("t", "new").result().offset == RECORDS


def test_a_restored_partition_is_served_again(run: Run, data: Path) -> None:
    segment = _segments(data)[1]
    backup = segment.read_bytes()
    _plant_checksum(data)
    assert run("log", "verify", str(data), "--quarantine").code == 1
    segment.write_bytes(backup)
    (data / "t-0" / "quarantined").unlink()
    assert run("log", "verify", str(data)).code == 0
    with Broker(SETTINGS, data=data) as broker:
        assert _read(broker.bootstrap, "t", RECORDS) == list(range(RECORDS))


@pytest.fixture
def running(data: Path) -> Iterator[Broker]:
    """A broker on damaged data."""
    _plant_checksum(data)
    with Broker(SETTINGS, data=data) as broker:
        yield broker


def test_a_running_broker_takes_a_damaged_partition_out_of_service(
    running: Broker, run: Run
) -> None:
    bootstrap = running.bootstrap
    assert _read(bootstrap, "t", 5) == [0, 1, 2, 3, 4]
    done = run("log", "verify", str(running.data), "--quarantine")
    assert done.code == 1
    assert "the running broker has taken it out of service" in done.out
    assert eventually(lambda: _refused(running), "the partition is refused") is (
        ErrorCode.KAFKA_STORAGE_ERROR
    )
    assert not _produced(bootstrap)
    with Consumer(bootstrap=bootstrap, request_timeout_ms=2_000) as consumer:
        consumer.assign([TopicPartition("t", 0)])
        consumer.seek(TopicPartition("t", 0), 0)
        assert not consumer.poll(0.3)
    assert _read(bootstrap, "other", 3) == [0, 1, 2]
    running.restart()
    assert _refused(running) is ErrorCode.KAFKA_STORAGE_ERROR
