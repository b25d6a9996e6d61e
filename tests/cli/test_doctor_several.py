"""``ottla doctor`` on the data of several brokers: each fault that it knows, planted."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ottla import Admin, Producer
from tests.cli.conftest import Done
from tests.cli.conftest import Ottla as Run
from tests.cli.two_brokers import serve_two
from tests.support.waiting import DEADLINE_S

MARK = "ottla-brokers.json"
MACHINE = ("file-system", "room", "inodes", "directories", "descriptors")


@pytest.fixture(scope="session")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two brokers leave after a clean stop."""
    path = tmp_path_factory.mktemp("left") / "data"
    with serve_two(path) as running:
        with Admin(running.addresses[0]) as admin:
            admin.create_topic("t", partitions=2)
        with Producer(running.addresses[0]) as producer:
            for partition in range(2):
                producer.send("t", "one", partition=partition).result()
        running.process.terminate()
        assert running.process.wait(DEADLINE_S) == 0
    return path


@pytest.fixture
def data(left: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    path = tmp_path / "data"
    shutil.copytree(left, path, ignore=shutil.ignore_patterns("ottla-socket"))
    return path


def _doctor(run: Run, *argv: object) -> Done:
    return run("doctor", *map(str, argv), "-o", "json")


def _found(done: Done) -> dict[str, str]:
    """Severity by code, of what is not the machine's."""
    return {i["code"]: i["severity"] for i in done.json if i["code"] not in MACHINE}


def test_nothing_is_wrong_with_what_several_brokers_leave(run: Run, data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    done = _doctor(run, "--data", data)
    assert _found(done) == {}, done.out
    assert done.code == 0
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    on_disk = [i["subject"] for i in done.json if i["code"] in ("file-system", "room", "inodes")]
    assert set(on_disk) <= {str(data)}, "the disk is the same for all of them"


def test_the_settings_of_several_brokers_are_no_contradiction(run: Run, data: Path) -> None:
    factor = ("--set", "default.replication.factor=2")
    assert _found(_doctor(run, "--data", data, *factor)) == {}
    done = _doctor(run, "--data", data, "--set", "default.replication.factor=3")
    assert _found(done) == {"replication": "error"}
    assert "there are 2 brokers" in done.out


def test_who_runs_is_named_and_what_runs_without_the_others(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve_two(data) as running:
        done = _doctor(run, "--data", data)
        assert _found(done) == {"in-use": "info"}
        in_use = {i["subject"]: i["what"] for i in done.json if i["code"] == "in-use"}
        assert list(in_use) == [str(data), f"{data}/broker-1", f"{data}/broker-2"]
        assert f"process {running.process.pid} " in in_use[str(data)]
        for pid, number in zip(running.pids, (1, 2), strict=True):
            assert f"process {pid} " in in_use[f"{data}/broker-{number}"]
        running.process.terminate()
        assert running.process.wait(DEADLINE_S) == 0
    assert _found(_doctor(run, "--data", data)) == {}


@pytest.mark.parametrize(
    ("held", "code", "subject"),
    [
        ((".lock", "broker-1/.lock"), "broker-down", "broker-2"),
        (("broker-1/.lock",), "left-over", "broker-1"),
    ],
)
def test_a_broker_without_the_command_and_the_command_without_a_broker_are_found(
    run: Run, data: Path, held: tuple[str, ...], code: str, subject: str
) -> None:
    from ottla.log.disk import Disk

    disk = Disk()
    locks = [disk.lock(str(data / name)) for name in held]
    try:
        done = _doctor(run, "--data", data)
    finally:
        for lock in locks:
            disk.unlock(lock)
    assert _found(done) == {"in-use": "info", code: "warning"}, done.out
    assert [i["subject"] for i in done.json if i["code"] == code] == [str(data / subject)]


def _mark(data: Path, text: str) -> None:
    (data / MARK).write_text(text)


def _counted(data: Path, brokers: int, node_id: int = 1) -> None:
    _mark(data, json.dumps({"version": 0, "brokers": brokers, "node_id": node_id}))


def _plant_missing_broker(data: Path) -> None:
    shutil.rmtree(data / "broker-2")


def _plant_exchanged_brokers(data: Path) -> None:
    (data / "broker-1").rename(data / "broker-3")
    (data / "broker-2").rename(data / "broker-1")
    (data / "broker-3").rename(data / "broker-2")


def _plant_empty_broker(data: Path) -> None:
    (data / "broker-3").mkdir()


def _plant_unknown_directory(data: Path) -> None:
    (data / "photos").mkdir()


def _plant_exported(data: Path) -> None:
    (data / "ottla-store.sqlite.exported").write_text("zk:2181/ottla\n")


def _plant_other_cluster(data: Path) -> None:
    path = data / "broker-2" / "meta.properties"
    path.write_text(re.sub("cluster.id=.*", "cluster.id=AAAAAAAAAAAAAAAAAAAAAA", path.read_text()))


def _plant_unknown_topic(data: Path) -> None:
    (data / "broker-2" / "gone-3").mkdir()


@pytest.mark.parametrize(
    ("plant", "code", "severity"),
    [
        (lambda data: _mark(data, "nonsense"), "brokers-mark", "error"),
        (lambda data: _mark(data, "[2]"), "brokers-mark", "error"),
        (lambda data: _counted(data, 0), "brokers-mark", "error"),
        (lambda data: _counted(data, 1_000_000_000), "brokers-mark", "error"),
        (lambda data: _counted(data, 3), "broker-missing", "error"),
        (_plant_missing_broker, "broker-missing", "error"),
        (lambda data: _counted(data, 1), "broker-beyond", "error"),
        (_plant_empty_broker, "broker-beyond", "info"),
        (lambda data: _counted(data, 2, node_id=7), "node-id", "error"),
        (_plant_exchanged_brokers, "node-id", "error"),
        (lambda data: (data / "broker-2/ottla-one-of-several").unlink(), "member-mark", "warning"),
        (lambda data: (data / "ottla-store.sqlite").unlink(), "no-store", "error"),
        (lambda data: (data / "ottla-store.sqlite").write_bytes(bytes(9_000)), "store", "error"),
        (_plant_exported, "exported", "info"),
        (_plant_unknown_directory, "unknown", "info"),
        (_plant_other_cluster, "cluster-id", "error"),
        (_plant_unknown_topic, "unknown-topic", "warning"),
        (lambda data: (data / "broker-2/.kafka_cleanshutdown").unlink(), "unclean", "info"),
    ],
)
def test_a_fault_in_the_data_of_several_brokers_is_found(
    run: Run, data: Path, plant: Callable[[Path], None], code: str, severity: str
) -> None:
    plant(data)
    done = _doctor(run, "--data", data)
    assert _found(done) == {code: severity}, done.out
    assert done.code == (1 if severity == "error" else 0)


def test_an_id_that_the_settings_give_is_compared(run: Run, data: Path) -> None:
    done = _doctor(run, "--data", data, "--set", "node.id=4")
    assert _found(done) == {"node-id": "error"}
    assert "Start with --node-id 1" in done.out
    assert _found(_doctor(run, "--data", data, "--set", "node.id=1")) == {}


def test_several_directories_of_several_brokers_are_to_say_the_same(
    run: Run, data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    both = ("--data", data, "--data", other)
    assert _found(_doctor(run, *both)) == {"new": "info"}
    _counted(other, 2)
    for number in (1, 2):
        (other / f"broker-{number}").mkdir()
        (other / f"broker-{number}" / "ottla-one-of-several").touch()
    assert _found(_doctor(run, *both)) == {}
    _counted(other, 1)
    done = _doctor(run, *both)
    assert _found(done) == {"brokers-marks": "warning"}
    assert "Start with --brokers 2" in done.out
    _counted(other, 2)
    done = _doctor(run, "--data", other, "--data", data)
    assert _found(done) == {"no-store": "error"}
    assert f"Name {data}, which has it, before all others." in done.out


def test_one_of_several_is_looked_at_with_what_they_share(run: Run, data: Path) -> None:
    done = _doctor(run, "--data", data / "broker-2")
    assert _found(done) == {"one-of-several": "info"}, done.out
    assert f"ottla doctor --data {data}" in done.out
    (data / "broker-2" / "gone-3").mkdir()
    done = _doctor(run, "--data", data / "broker-2")
    assert _found(done) == {"one-of-several": "info", "unknown-topic": "warning"}


def test_a_broker_of_a_cluster_lacks_neither_a_store_nor_an_id(run: Run, data: Path) -> None:
    zookeeper = ("--set", "zookeeper.connect=127.0.0.1:2181")
    done = _doctor(run, "--data", data / "broker-2", *zookeeper)
    assert _found(done) == {}, done.out
    done = _doctor(run, "--data", data / "broker-2", *zookeeper, "--set", "node.id=1")
    assert _found(done) == {"node-id": "error"}


def test_the_logs_of_several_brokers_are_verified_by_the_directory_they_share(
    run: Run, data: Path
) -> None:
    done = run("log", "verify", str(data), "--deep")
    assert done.code == 0, done.out
    assert done.lines[-1].startswith("2 partitions, 2 batches, ")
    (segment,) = (data / "broker-2").glob("t-*/*.log")
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    done = run("log", "verify", str(data))
    assert done.code == 1, done.out
    assert str(segment.parent) in done.out
