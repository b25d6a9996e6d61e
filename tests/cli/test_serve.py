"""``ottla serve`` as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ottla import Consumer, Producer

OTTLA_SERVE = [sys.executable, "-m", "ottla", "serve"]
DEADLINE_S = 60.0
READY = re.compile(
    r"ottla \S+ ready: node (\d+) on 127\.0\.0\.1:(\d+), data in (.+) \(start took \d+\.\d\d s\)\n"
)


@contextmanager
def _serve(data: Path, *argv: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A broker on a free port and its bootstrap address."""
    process = subprocess.Popen(
        [*OTTLA_SERVE, "--data", str(data), "--listen", "127.0.0.1:0", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = READY.fullmatch(line)
        assert match is not None, line + (process.stderr.read() if process.stderr else "")
        assert match[3] == str(data)
        yield process, f"127.0.0.1:{match[2]}"
    finally:
        process.kill()
        process.communicate()


def _values(bootstrap: str, count: int) -> list[bytes]:
    values: list[bytes] = []
    with Consumer("t", bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        for record in consumer:
            values.append(record.value)
            if len(values) == count:
                break
    return values


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_broker_serves_stops_cleanly_and_has_its_data_afterwards(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _serve(tmp_path) as (process, bootstrap):
        with Producer(bootstrap) as producer:
            assert producer.send("t", "kept").result().offset == 0
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        assert "rror" not in process.stderr.read()
    with _serve(tmp_path) as (_, bootstrap):
        assert _values(bootstrap, 1) == [b"kept"]


def test_a_stock_properties_file_starts_a_broker(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text(
        "broker.id=4\nnum.network.threads=3\nnum.io.threads=8\nlog.dirs=/nowhere/at/all\n"
        "num.partitions=2\nbackground.threads=10\noffsets.topic.replication.factor=3\n"
    )
    with _serve(tmp_path / "data", "--config", str(file), "--set", "num.partitions=3") as served:
        process, bootstrap = served
        with Producer(bootstrap) as producer:
            assert producer.partitions_for("t") == 3
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        warnings = [line for line in process.stderr if line.startswith("ottla: warning")]
    assert warnings == [
        "ottla: warning: settings of Kafka's that do nothing here: "
        "num.network.threads, num.io.threads, background.threads\n"
    ]


def _fails(*argv: str) -> tuple[int, str]:
    done = subprocess.run(
        [*OTTLA_SERVE, *argv],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


def test_a_port_and_a_directory_that_are_taken_are_one_line_each_and_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    with _serve(tmp_path / "a") as (process, bootstrap):
        code, line = _fails("--data", str(tmp_path / "b"), "--listen", bootstrap)
        assert (code, line) == (
            1,
            f"ottla serve: cannot listen on {bootstrap}: Address already in use",
        )
        assert not (tmp_path / "b").exists()
        code, line = _fails("--data", str(tmp_path / "a"), "--listen", "127.0.0.1:0")
        assert code == 3
        holder = f"process {process.pid} on "
        assert line.startswith(f"ottla serve: {tmp_path / 'a'} is in use by {holder}")
        process.kill()
        process.wait()
    with _serve(tmp_path / "a"):  # the lock died with the process
        pass


def test_settings_that_can_not_be_taken_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    code, line = _fails(*data, "--set", "log.retention.mss=1")
    assert (code, line) == (
        2,
        "ottla serve: Unknown setting log.retention.mss; did you mean log.retention.ms? (--set)",
    )
    code, line = _fails(*data, "--set", "durability=tape")
    assert (code, line) == (
        2,
        "ottla serve: Invalid value tape for configuration durability: "
        "String must be one of: disk, os (--set)",
    )


def test_another_node_id_than_the_datas_is_refused(tmp_path: Path) -> None:
    with _serve(tmp_path, "--node-id", "3") as (process, _):
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    code, line = _fails("--data", str(tmp_path), "--listen", "127.0.0.1:0", "--node-id", "4")
    assert code == 2
    assert "3" in line
    assert "4" in line
