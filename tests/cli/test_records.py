"""``ottla produce`` and ``ottla consume`` against a broker."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ottla.cli import common, consume, produce
from ottla.testing import Broker
from tests.cli.conftest import Ottla

OTTLA = [sys.executable, "-m", "ottla"]
DEADLINE_S = 30.0


def test_what_is_produced_is_consumed(ottla: Ottla) -> None:
    sent = ottla("produce", "t", "-K", ":", "-H", "source=test", stdin=b"a:1\nb:2\n")
    assert sent.code == 0
    assert sent.err.startswith("2 records (0.0 MB) to t in ")
    done = ottla("consume", "t", "--from-beginning", "-n", "2", "-f", "%t|%p|%o|%k|%s|%h\\n")
    assert (done.code, done.err) == (0, "")
    assert done.lines == ["t|0|0|a|1|source=test", "t|0|1|b|2|source=test"]


def test_json_output_is_a_line_a_record(ottla: Ottla) -> None:
    ottla("produce", "t", stdin="grüße\n".encode())
    for option in (["--json"], ["-o", "json"]):
        done = ottla("consume", "t", "--from-beginning", "--exit-at-end", *option)
        (record,) = [json.loads(line) for line in done.lines]
        assert (record["value"], record["key"], record["offset"]) == ("grüße", None, 0)
        assert abs(record["timestamp"] / 1000 - time.time()) < 3600


def test_a_file_with_every_codec_arrives_whole(ottla: Ottla, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    lines = [f"line {number}" for number in range(2000)]
    file.write_text("\n".join(lines))
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        sent = ottla("produce", codec, "--file", str(file), "-z", codec, "-o", "json")
        assert (sent.code, sent.json["records"], sent.json["failed"]) == (0, 2000, 0)
        assert ottla("consume", codec, "--from-beginning", "-e").lines == lines


def test_reading_begins_where_it_is_told(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "-p", "2")
    for number in (0, 1):
        lines = "".join(f"{number}-{index}\n" for index in range(5))
        ottla("produce", "t", "-p", str(number), stdin=lines.encode())

    def values(*argv: str) -> list[str]:
        done = ottla("consume", "t", "--exit-at-end", *argv)
        assert done.code == 0, done.err
        return sorted(done.lines)

    everything = sorted(f"{number}-{index}" for number in (0, 1) for index in range(5))
    assert values("--from-beginning") == everything
    assert values("--since", "1h ago") == everything
    assert values("--since", "now") == []
    assert values() == []
    assert values("--offset", "3") == ["0-3", "0-4", "1-3", "1-4"]
    assert values("--offset", "-1") == ["0-4", "1-4"]
    assert values("--offset", "-99") == everything
    assert values("--partition", "1", "--offset", "2") == ["1-2", "1-3", "1-4"]
    assert len(ottla("consume", "t", "--from-beginning", "-n", "4").lines) == 4


def test_a_group_goes_on_after_exactly_what_was_written(ottla: Ottla) -> None:
    ottla("produce", "t", stdin=b"1\n2\n3\n4\n5\n")
    first = ottla("consume", "t", "-g", "g", "--from-beginning", "-n", "2")
    second = ottla("consume", "t", "-g", "g", "--from-beginning", "--exit-at-end")
    assert (first.lines, second.lines) == (["1", "2"], ["3", "4", "5"])


def test_mistakes_are_one_line_and_exit_code_2(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    for argv, message in [
        (["--from-beginning", "--offset", "1"], "exclude each other"),
        (["--partition", "0", "--group", "g"], "exclude each other"),
        (["--format", "%s", "--json"], "exclude each other"),
        (["--format", "%y"], "%y is no field"),
        (["--since", "soon"], "--since: 'soon' is no time"),
        (["--partition", "7"], "topic t has no partition 7"),
        (["-n", "0"], "--max-messages"),
    ]:
        done = ottla("consume", "t", *argv)
        assert done.code == 2, argv
        assert message in done.err, argv
        assert done.err.count("\n") == 1


def test_a_record_that_is_too_large_is_named_and_the_exit_code_is_1(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "--set", "max.message.bytes=500")
    done = ottla("produce", "t", stdin=b"small\n" + b"x" * 5000 + b"\n")
    assert done.code == 1
    assert "MESSAGE_TOO_LARGE" in done.err


def _start(
    broker: Broker, *argv: str, stdout: int | None = None, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OTTLA_BOOTSTRAP": broker.bootstrap}
    return subprocess.Popen([*OTTLA, *argv], env=environment, stdout=stdout, stderr=stderr)


def test_a_reader_that_has_enough_ends_it_quietly(ottla_broker: Broker, ottla: Ottla) -> None:
    ottla("produce", "t", stdin=b"1\n2\n3\n")
    argv = ["consume", "t", "--from-beginning"]
    with _start(ottla_broker, *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"1\n"
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == b""


def test_a_signal_ends_it_with_what_was_written_committed(
    ottla_broker: Broker, ottla: Ottla
) -> None:
    ottla("produce", "t", stdin=b"1\n2\n")
    for number, group in ((signal.SIGINT, "a"), (signal.SIGTERM, "b")):
        argv = ["consume", "t", "--group", group, "--from-beginning"]
        with _start(ottla_broker, *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert [process.stdout.readline(), process.stdout.readline()] == [b"1\n", b"2\n"]
            process.send_signal(number)
            assert process.wait(DEADLINE_S) == 0
            assert process.stderr.read() == b""
        (shown,) = ottla("group", "describe", group, "-o", "json").json
        assert (shown["lag"], shown["partitions"][0]["committed"]) == (0, 2)


def test_progress_is_drawn_on_a_terminal(ottla_broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("x" * 50 + "\n")
    controller, terminal = pty.openpty()
    argv = ["produce", "t", "--file", str(file)]
    with _start(ottla_broker, *argv, stderr=terminal) as process:
        os.close(terminal)
        drawn = b""
        while True:
            try:
                drawn += os.read(controller, 1024)
            except OSError:  # the other side is closed
                break
        assert process.wait(DEADLINE_S) == 0
    os.close(controller)
    assert "━".encode() in drawn
    assert b"1 record (0.0 MB) to t" in drawn


def test_a_cluster_that_is_not_there_is_one_line(
    ottla: Ottla, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "ADMIN_TIMEOUT_S", 0.3)
    monkeypatch.setattr(consume, "ADMIN_TIMEOUT_S", 0.3)
    monkeypatch.setattr(produce, "MAX_BLOCK_MS", 300)
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        for argv in (["topic", "list"], ["group", "list"], ["consume", "t"], ["produce", "t"]):
            done = ottla(*argv, "-b", address, stdin=b"x\n")
            assert (done.code, done.err) == (1, f"ottla: no broker answers at {address}\n"), argv
