"""``make cluster``: three ZooKeeper servers and three brokers with one command, and none left when it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from tests.support.ports import HeldPorts
from tests.support.waiting import eventually
from tests.support.zookeeper import require_zookeeper

ROOT = Path(__file__).parents[2]


@contextmanager
def cluster(data: Path, ports: list[int], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command, ready; ended with Ctrl-C."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tools.cluster", "--data", str(data)),
                *("--ports", ",".join(map(str, ports))),
            ],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        eventually(
            lambda: "Ctrl-C stops" in output.read_text() or process.poll() is not None,
            "the cluster is up",
            90.0,
        )
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def processes(output: str) -> list[int]:
    """The process ids that it names."""
    return [int(pid) for pid in re.findall(r": process (\d+)", output)]


def test_one_command_makes_a_cluster_that_keeps_its_data_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    require_zookeeper()
    held = HeldPorts(12)
    try:
        bootstrap = ",".join(f"127.0.0.1:{port}" for port in held.ports[:3])
        data, first, second = tmp_path / "data", tmp_path / "first", tmp_path / "second"
        with cluster(data, held.ports, first), Producer(bootstrap) as producer:
            assert f"OTTLA_BOOTSTRAP={bootstrap}" in first.read_text()
            producer.send("t", b"kept", partition=0).result()
            with Admin(bootstrap) as admin:
                (partition,) = admin.describe_topics("t")["t"].partitions
                assert sorted(partition.replicas) == [1, 2, 3]
        started = processes(first.read_text())
        assert len(started) == 6
        assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
        with cluster(data, held.ports, second):
            victim = processes(second.read_text())[-1]
            with Consumer("t", bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
                (record,) = eventually(lambda: consumer.poll(0.1), "what was sent before")
            assert record.value == b"kept"
            subprocess.run(["kill", "-9", str(victim)], check=True)
            eventually(lambda: "broker-3 has ended" in second.read_text(), "it says so")
            assert "ottla serve --zookeeper" in second.read_text()
    finally:
        held.release()


def test_who_lacks_zookeeper_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools import cluster as command

    monkeypatch.setattr(command, "JARS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["cluster", "--data", str(tmp_path / "data")])
    assert command.main() == 1
    assert "apt-get install zookeeper" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
