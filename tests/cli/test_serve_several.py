"""``ottla serve --brokers N``: processes of their own that are one cluster, and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from ottla.cli.entry import main
from ottla.testing import Broker
from tests.cli.two_brokers import OTTLA_SERVE, lives, serve_two
from tests.support.waiting import DEADLINE_S, eventually
from tests.support.zookeeper import Ensemble


def _leaders(bootstrap: str, topic: str) -> list[int]:
    with Admin(bootstrap) as admin:
        return [partition.leader for partition in admin.describe_topic(topic).partitions]


def _values(bootstrap: str, topic: str, count: int) -> list[bytes]:
    values: list[bytes] = []
    with Consumer(topic, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        for record in consumer:
            values.append(record.value)
            if len(values) == count:
                break
    return sorted(values)


def _fails(*argv: str) -> tuple[int, str]:
    done = subprocess.run(
        [*OTTLA_SERVE, *argv], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0].removeprefix("ottla serve: ")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where the brokers have their data."""
    return tmp_path / "data"


def test_two_brokers_are_one_cluster_that_stops_cleanly_and_has_its_data_afterwards(
    data: Path, tmp_path: Path
) -> None:
    with serve_two(data, "--node-id", "7", "--set", "num.partitions=4") as running:
        first, second = running.addresses
        with Admin(first) as admin:
            found = admin.describe_cluster()
            assert [node.node_id for node in found.nodes] == [7, 8]
            assert sorted(f"{node.host}:{node.port}" for node in found.nodes) == sorted(
                running.addresses
            )
            admin.create_topic("t", partitions=4, replication_factor=2)
        eventually(lambda: sorted(_leaders(second, "t")) == [7, 7, 8, 8], "four leaders")
        with Producer(first) as producer:
            for number in range(8):
                producer.send("t", f"{number}", partition=number % 4).result()
        assert len(_values(second, "t", 8)) == 8
        running.process.terminate()
        assert running.process.wait(DEADLINE_S) == 0
    errors = (tmp_path / "errors").read_text()
    assert errors.count('"event": "stopped cleanly", "broker": ') == 2
    assert '"level": "error"' not in errors
    assert "Traceback" not in errors
    with serve_two(data) as running:  # which knows the ids, too
        assert _values(running.addresses[1], "t", 8) == [b"%d" % number for number in range(8)]


def test_what_was_acknowledged_survives_the_death_of_a_broker_which_comes_back(data: Path) -> None:
    with serve_two(data) as running:
        bootstrap = ",".join(running.addresses)
        with Admin(bootstrap) as admin:
            admin.create_topic("t", partitions=2, replication_factor=2)
        acknowledged: list[bytes] = []
        enough = threading.Event()
        with Producer(bootstrap, acks="all") as producer:

            def load() -> None:
                while not enough.is_set():
                    value = b"%06d" % len(acknowledged)
                    producer.send("t", value, partition=len(acknowledged) % 2).result()
                    acknowledged.append(value)

            thread = threading.Thread(target=load)
            thread.start()
            eventually(lambda: len(acknowledged) > 20, "a load")
            os.kill(running.pids[0], signal.SIGKILL)
            survivor = running.addresses[1]
            eventually(lambda: _leaders(survivor, "t") == [2, 2], "another leader", 9.0)
            killed_at = len(acknowledged)
            eventually(lambda: len(acknowledged) > killed_at + 20, "a load without it")
            eventually(lambda: running.pid(1) not in (0, running.pids[0]), "another process")
            running.pids[0] = running.pid(1)

            def all_in_sync() -> bool:
                with Admin(survivor) as admin:
                    partitions = admin.describe_topic("t").partitions
                return all(len(partition.isr) == 2 for partition in partitions)

            eventually(all_in_sync, "the broker comes back, at its port")
            enough.set()
            thread.join(DEADLINE_S)
        assert not thread.is_alive()
        values = _values(running.addresses[0], "t", len(acknowledged))
        assert set(values) >= set(acknowledged)
        running.process.terminate()
        assert running.process.wait(DEADLINE_S) == 0


def test_brokers_end_with_the_command_that_was_killed_and_the_next_one_has_their_data(
    data: Path,
) -> None:
    with serve_two(data) as running:
        with Producer(running.addresses[0]) as producer:
            producer.send("t", "kept").result()
        running.process.kill()
        running.process.wait()
        with serve_two(data) as again:  # it waits for the brokers that were left
            assert _values(again.addresses[1], "t", 1) == [b"kept"]


def test_a_broker_that_stands_still_is_led_without_and_comes_back(data: Path) -> None:
    with serve_two(data, "--set", "zookeeper.session.timeout.ms=1000") as running:
        with Admin(running.addresses[1]) as admin:
            admin.create_topic("t", partitions=2, replication_factor=2)
        os.kill(running.pids[0], signal.SIGSTOP)
        try:
            eventually(lambda: _leaders(running.addresses[1], "t") == [2, 2], "another leader")
        finally:
            os.kill(running.pids[0], signal.SIGCONT)

        def is_back() -> bool:
            with Admin(running.addresses[1]) as admin:
                return len(admin.describe_cluster().nodes) == 2

        eventually(is_back, "it registers again")
        assert running.pid(1) == running.pids[0]


def test_a_port_that_is_taken_is_one_line_and_leaves_no_broker_behind(
    data: Path, tmp_path: Path
) -> None:
    with serve_two(data) as running:
        taken, free = running.addresses[1], "127.0.0.1:0"
        arguments = ("--brokers=2", "--data", str(tmp_path / "other"))
        code, line = _fails(*arguments, f"--listen={free}", f"--listen={taken}")
        assert (code, line) == (1, f"cannot listen on {taken}: Address already in use")
        code, line = _fails("--brokers=2", "--data", str(data))
        assert code == 3
        assert line.startswith(f"{data} is in use by process {running.process.pid} on ")
        code, line = _fails("--data", str(data))
        assert code == 2
        assert line == f"log.dirs: {data} has the data of 2 brokers: start them with --brokers 2"
    pid = (tmp_path / "other" / "broker-1" / ".lock").read_text().partition(" ")[0]
    assert not pid or not lives(int(pid))


def test_a_service_manager_hears_of_the_command_alone_and_first_when_all_are_ready(
    data: Path, tmp_path: Path
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(DEADLINE_S)
        with serve_two(data, NOTIFY_SOCKET=name) as running:
            told = manager.recv(4096).decode().splitlines()
            assert told == ["READY=1", f"MAINPID={running.process.pid}"]
            running.process.terminate()
            assert running.process.wait(DEADLINE_S) == 0
        assert manager.recv(4096) == b"STOPPING=1"
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_the_state_of_several_brokers_can_go_to_a_zookeeper(
    data: Path, zookeeper: Ensemble, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve_two(data) as running:
        with Admin(running.addresses[0]) as admin:
            admin.create_topic("t", partitions=2, replication_factor=2)
        with Producer(running.addresses[0]) as producer:
            for number in range(4):
                producer.send("t", f"{number}", partition=number % 2).result()
        running.process.terminate()
        assert running.process.wait(DEADLINE_S) == 0
    connect = zookeeper.fresh_chroot()
    assert main(["store", "export", "--data", str(data), "--zookeeper", connect]) == 0
    how = f"start each broker with --zookeeper {connect} --data {data}/broker-K"
    assert capsys.readouterr().out.splitlines()[-1] == how
    code, line = _fails("--brokers=2", "--data", str(data))
    assert (code, line) == (
        2,
        f"--brokers: the state in {data} has gone to the ZooKeeper {connect}: {how}",
    )
    with ExitStack() as stack:
        brokers = [
            stack.enter_context(
                Broker(
                    {"zookeeper.connect": connect, "node.id": node}, data=data / f"broker-{node}"
                )
            )
            for node in (1, 2)
        ]
        assert _values(brokers[1].bootstrap, "t", 4) == [b"0", b"1", b"2", b"3"]
