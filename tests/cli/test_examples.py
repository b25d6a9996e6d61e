"""Every example of the help, and so of docs/cli.md and the man pages, does what it says against a broker."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.testing import Cluster
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.zookeeper import Ensemble
from tools import cli_reference

BIN = Path(sys.executable).parent
EXAMPLES = list(dict.fromkeys(line for page in cli_reference.pages() for line in page.examples))
SERVE = [line for line in EXAMPLES if line.startswith("ottla serve")]
EXPORT = [line for line in EXAMPLES if line.startswith("ottla store export")]
REASSIGN = [line for line in EXAMPLES if line.startswith("ottla partition reassign")]
WITH_A_BROKER = [
    line for line in EXAMPLES if line not in (*SERVE, *EXPORT, *REASSIGN) and "salvage" not in line
]


def _environment(home: Path, **more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTTLA_", "KAFKA_"))
    }
    return {**kept, "PATH": f"{BIN}:{home / 'bin'}:{kept['PATH']}", "HOME": str(home), **more}


class _Stage:
    """A directory with a broker's data in it, the files that examples name, and the broker."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "bin").mkdir()
        jq = home / "bin" / "jq"  # only what is piped into it is ours
        jq.write_text("#!/bin/sh\ncat\n")
        jq.chmod(0o755)
        (home / "events.jsonl").write_text('{"a": 1}\n')
        (home / "deletions.tsv").write_text("gone\t\n")
        (home / "server.properties").write_text("num.partitions=2\nlog.dirs=data\n")
        for path in (
            ".zfunc",
            ".config/fish/completions",
            ".local/share/bash-completion/completions",
        ):
            (home / path).mkdir(parents=True)
        self.process = _serve(home, ["ottla", "serve", "--data", "data", "--listen", "127.0.0.1:0"])
        self.address = _wait_for_address(self.process)
        self.environment = _environment(home, OTTLA_BOOTSTRAP=self.address)

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """The line in a shell; a consumer, or a watch, that would go on for ever is interrupted."""
        for address in ("localhost:9092", "host1:9092,host2:9092,host3:9092"):
            line = line.replace(address, self.address)
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            if "consume" in line and "--exit-at-end" not in line and "--max-messages" not in line:
                shown = self._first_line(process)
                os.killpg(process.pid, signal.SIGINT)
                out, err = process.communicate(timeout=DEADLINE_S)
                assert process.returncode in (0, 130, -signal.SIGINT), err
                return subprocess.CompletedProcess(line, 0, shown + out, err)
            if "--watch" in line:
                assert process.stdout is not None
                shown = process.stdout.readline()
                os.killpg(process.pid, signal.SIGINT)
                out, err = process.communicate(timeout=DEADLINE_S)
                assert process.returncode in (0, 130, -signal.SIGINT), err
                return subprocess.CompletedProcess(line, 0 if shown else 1, shown + out, err)
            out, err = process.communicate("key:value\n", timeout=DEADLINE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return subprocess.CompletedProcess(line, process.returncode, out, err)

    def _first_line(self, process: subprocess.Popen[str]) -> str:
        """What a consumer shows first, of records that come until it has joined its group."""
        assert process.stdout is not None
        stream = process.stdout

        def shown() -> bool:
            self.run("seq 3 | ottla produce weather.observations")
            return bool(select.select([stream], [], [], 0.2)[0])

        wait_until(shown)
        return stream.readline()

    def prepare(self) -> None:
        """What the examples speak of: topics with records, groups with offsets."""
        topic = "weather.observations"
        for line in (
            f"ottla topic create {topic} --partitions 3",
            "ottla topic create audit --partitions 5",
            "ottla topic create prices events table scratch old.one old.two",
            *(f"seq 1200 | ottla produce {topic} --partition {number}" for number in range(3)),
            "seq 10 | ottla produce audit",
            "seq 10 | ottla produce scratch",
            "seq 10 | ottla produce greetings",
            *(
                f"ottla consume {topic} --group {group} --from-beginning --exit-at-end"
                for group in ("stroll", "old.one", "old.two")
            ),
        ):
            done = self.run(line)
            assert done.returncode == 0, (line, done.stderr)
        self.run(f"ottla topic delete {topic}-unused")


class _ClusterStage(_Stage):
    """The same with four brokers in this process, and nothing in them."""

    def __init__(self, home: Path, bootstrap: str) -> None:
        self.home = home
        self.address = bootstrap.partition(",")[0]
        self.environment = _environment(home, OTTLA_BOOTSTRAP=self.address)


def _serve(home: Path, argv: list[str], **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        cwd=home,
        env=_environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _wait_for_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " ready: " in line
    assert "node 1 on " in line
    return line.partition(" on ")[2].partition(", data")[0]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[_Stage]:
    """A stage whose broker is stopped at the end."""
    found = _Stage(tmp_path)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.communicate()


def _order(line: str) -> int:
    """Deletions come late, and a topic of a name that is taken is made when the taken one is deleted."""
    marks = ("topic trim", "delete", "topic create weather")
    return next((rank for rank, mark in enumerate(marks, 1) if mark in line), 0)


def test_every_example_does_what_it_says(stage: _Stage) -> None:
    stage.prepare()
    for line in sorted(WITH_A_BROKER, key=_order):
        if line == "ottla topic create weather.observations --partitions 3":
            assert stage.run("ottla topic delete weather.observations").returncode == 0
        done = stage.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
    stage.process.terminate()
    assert stage.process.wait(DEADLINE_S) == 0
    (salvage,) = (line for line in EXAMPLES if "salvage" in line)
    stage.run("mkdir -p data/weather.observations-0")
    done = stage.run(salvage)
    assert done.returncode == 0, done.stderr


def test_every_example_of_a_reassignment_finds_its_brokers(tmp_path: Path) -> None:
    with Cluster(brokers=4) as cluster:
        stage = _ClusterStage(tmp_path, cluster.bootstrap)
        assert stage.run("ottla topic create audit weather.observations").returncode == 0
        for line in REASSIGN:
            done = stage.run(line)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr


def test_every_example_of_an_export_finds_a_zookeeper(stage: _Stage, zookeeper: Ensemble) -> None:
    stage.process.terminate()
    assert stage.process.wait(DEADLINE_S) == 0
    connect = zookeeper.fresh_chroot()
    for line in EXPORT:
        done = stage.run(line.replace("zk1:2181,zk2:2181,zk3:2181/ottla", connect))
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("line", SERVE)
def test_every_example_of_serve_starts_a_broker(line: str, tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text("num.partitions=2\nlog.dirs=data\n")
    more = {} if "--listen" in line else {"OTTLA_LISTENERS": "PLAINTEXT://127.0.0.1:0"}
    line = line.replace("0.0.0.0:9092", "0.0.0.0:0").replace("/var/lib", str(tmp_path))
    process = _serve(tmp_path, shlex.split(line), **more)
    try:
        assert _wait_for_address(process)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()
