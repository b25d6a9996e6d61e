"""A broker on a system without what Linux has: it starts, keeps its records over a restart, and stops cleanly.

What is missing is taken away in a process of its own (``poorer_system/sitecustomize.py``).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ottla
from ottla import Admin, Consumer, Producer
from tests.support.waiting import wait_until

DEADLINE_S = 60.0
READY = re.compile(r"ottla \S+ ready: node 1 on 127\.0\.0\.1:(\d+), data in ")

WINDOWS = (
    "os.pread", "os.pwrite", "os.preadv", "os.RWF_NOWAIT", "os.fdatasync", "os.O_DIRECTORY",
    "os.uname", "os.eventfd", "os.sendfile", "os.writev", "os.sysconf", "os.register_at_fork", "os.fork",
    "os.posix_fadvise", "os.posix_fallocate", "os.getuid", "os.pwritev", "socket.AF_UNIX", "socket.SO_REUSEPORT",
    "os.nice", "os.statvfs", "pwd", "time.CLOCK_BOOTTIME", "select.poll", "select.epoll", "fcntl", "resource", "add_signal_handler", "proc",
    "+msvcrt", "+O_BINARY",
)  # fmt: skip
MACOS = (
    "os.RWF_NOWAIT", "os.fdatasync", "os.posix_fadvise", "os.posix_fallocate", "os.eventfd",
    "time.CLOCK_BOOTTIME", "select.epoll", "proc",
)  # fmt: skip
ONE_BY_ONE = (
    "os.pread", "os.preadv", "os.fdatasync", "os.O_DIRECTORY", "os.sendfile", "os.writev", "os.uname",
    "os.eventfd", "select.epoll", "resource", "add_signal_handler",
)  # fmt: skip

SYSTEMS = {
    "windows": WINDOWS,
    "macos": MACOS,
    "fcntl": ("fcntl", "+msvcrt"),
    **{name: (name,) for name in ONE_BY_ONE},
}


def environment(without: tuple[str, ...]) -> dict[str, str]:
    """Of a process that lacks these."""
    paths = [str(Path(__file__).parent / "poorer_system"), str(Path(ottla.__file__).parents[1])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OTTLA_TEST_WITHOUT": ",".join(without),
    }


@contextmanager
def serving(
    data: Path, without: tuple[str, ...], *settings: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "ottla", "serve", "--data", str(data)]
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", *(f"--set={setting}" for setting in settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(without),
    )
    try:
        assert process.stdout is not None
        found = READY.match(process.stdout.readline())
        assert found is not None, process.stderr.read() if process.stderr else ""
        yield process, f"127.0.0.1:{found[1]}"
    finally:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert "rror" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_broker_serves_and_keeps_its_records_without(system: str, tmp_path: Path) -> None:
    without = SYSTEMS[system]
    values = [bytes([i]) * 200_000 for i in range(4)]  # too large to be joined
    with serving(tmp_path, without) as (process, bootstrap):
        with Producer(bootstrap) as producer:
            for value in values:
                producer.send("t", value=value).result()
        stop(process)
    assert (tmp_path / ".kafka_cleanshutdown").exists()
    with serving(tmp_path, without) as (process, bootstrap):
        consumer = Consumer("t", group="g", bootstrap=bootstrap, auto_offset_reset="earliest")
        with consumer:
            read = [record.value for _, record in zip(values, consumer, strict=False)]
        assert read == values
        process.kill()
        process.wait()
    with serving(tmp_path, without) as (process, bootstrap):  # recovers
        with Consumer("t", bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
            assert [record.value for _, record in zip(values, consumer, strict=False)] == values
        stop(process)


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_a_second_broker_is_kept_off_the_directory_without(system: str, tmp_path: Path) -> None:
    without = SYSTEMS[system]
    with serving(tmp_path, without) as (process, _):
        command = [sys.executable, "-m", "ottla", "serve", "--data", str(tmp_path)]
        second = subprocess.run(
            [*command, "--listen", "127.0.0.1:0"],
            env=environment(without),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert second.returncode == 3
        assert f"in use by process {process.pid} on" in second.stderr


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_the_doctor_looks_at_data_without(system: str, tmp_path: Path) -> None:
    without = SYSTEMS[system]
    with serving(tmp_path / "data", without) as (process, _):
        stop(process)
    done = subprocess.run(
        [sys.executable, "-m", "ottla", "doctor", "--data", str(tmp_path / "data")],
        env=environment(without),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_a_compacted_topic_is_compacted_without(system: str, tmp_path: Path) -> None:
    quick = {
        "cleanup.policy": "compact",
        "segment.bytes": "2000",
        "min.cleanable.dirty.ratio": "0.01",
        "file.delete.delay.ms": "0",
    }
    with serving(tmp_path, SYSTEMS[system], "log.cleaner.backoff.ms=20") as (process, bootstrap):
        with Admin(bootstrap) as admin:
            admin.create_topic("t", config=quick)
        with Producer(bootstrap) as producer:
            for number in range(100):
                producer.send("t", key=b"k", value=b"%d " % number + b"v" * 500).result()
        wait_until(lambda: len(list((tmp_path / "t-0").glob("*.log"))) < 5, DEADLINE_S)
        consumer = Consumer("t", bootstrap=bootstrap, auto_offset_reset="earliest")
        with consumer:
            offsets = []
            for record in consumer:
                offsets.append(record.offset)
                if record.offset == 99:
                    break
        assert len(offsets) < 50
        stop(process)
