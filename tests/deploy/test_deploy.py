"""What ``deploy/`` promises, as far as it can be held without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import ottla
from ottla.cli.serve import config_of
from ottla.cli.serve_options import parse
from ottla.settings.broker_config import BrokerConfig
from tests.interop.requirements import leave_out, require_program
from tests.support.http import get
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OTTLA = [sys.executable, "-m", "ottla"]
DEADLINE_S = 60.0


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with continued lines joined and comments left out."""
    lines = [
        line for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if not line.startswith("#")
    ]  # fmt: skip
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, rest in parts]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def image_environment() -> dict[str, str]:
    (text,) = [rest for word, rest in last_stage() if word == "ENV"]
    return dict(pair.split("=", 1) for pair in shlex.split(text))


def image(word: str) -> str:
    (rest,) = [rest for found, rest in last_stage() if found == word]
    return rest


def settings_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> BrokerConfig:
    for name in [name for name in os.environ if name.startswith("OTTLA_")]:
        monkeypatch.delenv(name)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    arguments = parse(json.loads(image("CMD"))[1:])
    assert arguments is not None
    return config_of(arguments)


def test_the_dockerfile_copies_what_there_is_and_what_is_not_left_out() -> None:
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert "src" in sources
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in kept, f"{source} is left out by .dockerignore"
    # What the build backend reads beside the sources.
    project = (ROOT / "pyproject.toml").read_text()
    assert {"README.md", "LICENSE"} <= set(sources)
    assert 'readme = "README.md"' in project


def test_the_image_does_not_run_as_root_and_its_data_are_its_users() -> None:
    words = [word for word, _ in last_stage()]
    user = image("USER")
    assert user not in ("root", "0")
    assert words.index("USER") < words.index("ENTRYPOINT")
    commands = " ".join(rest for word, rest in last_stage() if word == "RUN")
    (volume,) = json.loads(image("VOLUME"))
    assert re.search(rf"useradd .*\b{user}\b", commands)
    assert f"install -d -o {user} -g {user} -m 0750 {volume}" in commands
    assert image_environment()["OTTLA_LOG_DIRS"].startswith(volume + "/")


def test_the_settings_of_the_image_and_of_the_compose_file_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings_of(image_environment(), monkeypatch)
    assert config.ignored == ()
    exposed = image("EXPOSE").split()
    assert config.http_endpoint is not None
    assert exposed == [str(config.endpoints[0].port), str(config.http_endpoint[1])]

    (service,) = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    config = settings_of(image_environment() | service["environment"], monkeypatch)
    assert config.ignored == ()
    ports = {listener.name: listener.port for listener in config.endpoints}
    told = {listener.name: listener for listener in config.advertised_endpoints}
    assert told["INSIDE"][:3] == ("INSIDE", "broker", ports["INSIDE"])
    assert told["OUTSIDE"][:3] == ("OUTSIDE", "localhost", 29092)
    assert f"127.0.0.1:29092:{ports['OUTSIDE']}" in service["ports"]
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).exists()


def environment(data: Path, **more: str) -> dict[str, str]:
    """The image's, on free ports and with the data elsewhere."""
    mine = {name: text for name, text in os.environ.items() if not name.startswith("OTTLA_")}
    image_settings = {
        name: text for name, text in image_environment().items() if name.startswith("OTTLA_")
    }
    source = {"PYTHONPATH": str(Path(ottla.__file__).parents[1])}
    changed = {
        "OTTLA_LOG_DIRS": str(data),
        "OTTLA_LISTENERS": "PLAINTEXT://127.0.0.1:0",
        "OTTLA_HTTP_LISTENER": "127.0.0.1:0",
    }
    assert changed.keys() <= image_settings.keys()
    return mine | image_settings | source | changed | more


@contextmanager
def running(
    data: Path, *before: str, **more: str
) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """What the image runs, and its HTTP port."""
    assert json.loads(image("ENTRYPOINT")) == ["ottla"]
    process = subprocess.Popen(
        [*before, *OTTLA, *json.loads(image("CMD"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(data, **more),
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert " ready: node 1 on " in line, line + process.stderr.read()
        for event in process.stderr:
            if "/ready and /metrics" in event:
                host, _, port = json.loads(event)["address"].rpartition(":")
                yield process, (host, int(port))
                break
    finally:
        process.kill()
        process.communicate()


def test_what_the_image_runs_is_healthy_until_it_stops(tmp_path: Path) -> None:
    text = image("HEALTHCHECK")
    program, flag, code = json.loads(text[text.index("CMD") + 3 :])
    assert program == "python"
    port = image_environment()["OTTLA_HTTP_LISTENER"]
    assert f"127.0.0.1{port}/ready" in code

    def healthy(address: tuple[str, int]) -> bool:
        asked = code.replace(f"127.0.0.1{port}", f"{address[0]}:{address[1]}")
        command = [sys.executable, flag, asked]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    with running(tmp_path / "data") as (process, address):
        assert get(address, "/ready").status == 200
        assert healthy(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        assert not healthy(address)
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()


def test_as_process_1_it_stops_cleanly_when_it_is_told_to(tmp_path: Path) -> None:
    """A process 1 gets no signal that it has not asked for: nothing but its own handler ends it."""
    unshare = [require_program("unshare", "util-linux"), "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        leave_out("PID namespaces may not be made here")
    with running(tmp_path / "data", *unshare) as (outer, address):
        (child,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        inside = Path(f"/proc/{child}/status").read_text()
        assert re.search(r"^NSpid:.*\t1$", inside, re.MULTILINE)
        assert get(address, "/ready").status == 200
        os.kill(int(child), signal.SIGTERM)
        assert outer.wait(DEADLINE_S) == 0
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told_that_it_is_ready_alive_and_stopping(
    tmp_path: Path, abstract: bool
) -> None:
    name = f"ottla-test-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE_S)
        manager.bind("\0" + name if abstract else name)
        told = {"NOTIFY_SOCKET": "@" + name if abstract else name, "WATCHDOG_USEC": "20000"}
        with running(tmp_path / "data", **told) as (process, _):
            ready = manager.recv(4096).decode().splitlines()
            assert ready == ["READY=1", f"MAINPID={process.pid}"]
            assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            process.send_signal(signal.SIGTERM)
            assert eventually(lambda: manager.recv(4096) == b"STOPPING=1", "STOPPING=1")
            assert process.wait(DEADLINE_S) == 0


def test_a_manager_that_is_gone_does_the_broker_no_harm(tmp_path: Path) -> None:
    with running(tmp_path / "data", NOTIFY_SOCKET=str(tmp_path / "nobody")) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = require_program("systemd-analyze", "systemd")
    text = (DEPLOY / "ottla.service").read_text()
    installed = "/opt/ottla/bin/ottla"
    command = re.search(rf"^ExecStart={installed} (serve .*)$", text, re.MULTILINE)
    assert command is not None
    assert parse(command[1].split()[1:]) is not None
    here = tmp_path / "ottla.service"
    here.write_text(text.replace(installed, "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(here)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
