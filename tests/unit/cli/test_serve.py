"""``ottla serve``: settings, the line that says ready, signals, exit codes; the broker is a stand-in."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ottla.cli import serve as serve_module
from ottla.cli.entry import main
from ottla.cli.serve import config_of
from ottla.log.directory import DirectoryInUse
from ottla.settings.definitions import BrokerConfig, SettingError


class StandIn:
    """Takes the broker's place; what happens is set on the class."""

    error: Exception | None = None
    signals: tuple[int, ...] = (signal.SIGTERM,)
    hang_in_start = False
    stopped = 0

    def __init__(self, config: BrokerConfig) -> None:
        self.addresses = [("PLAINTEXT", "127.0.0.1", 40_123)]
        self.node_id = config.node_id

    async def start(self) -> None:
        if type(self).hang_in_start:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        error = type(self).error
        if error is not None:
            raise error

    async def serve_until(self, stop: asyncio.Event) -> None:
        for number in type(self).signals:
            os.kill(os.getpid(), number)
        await stop.wait()

    async def stop(self) -> None:
        type(self).stopped += 1


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandIn]]:
    class Broker(StandIn):
        pass

    module: Any = types.ModuleType("ottla.broker.broker")
    module.Broker = Broker
    monkeypatch.setitem(sys.modules, "ottla.broker.broker", module)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Broker
    root.handlers[:] = handlers
    root.setLevel(level)
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_broker_cleanly(
    broker: type[StandIn], number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.signals = (number,)
    assert main(["serve", "--data", "/tmp/somewhere", "--node-id", "3"]) == 0
    assert broker.stopped == 1
    line = capsys.readouterr().out
    assert line.startswith(
        "ottla 0.1.0 ready: node 3 on 127.0.0.1:40123, data in /tmp/somewhere (start took "
    )
    assert line.endswith(" s)\n")


def test_a_signal_during_the_start_stops_it(broker: type[StandIn]) -> None:
    broker.hang_in_start = True
    assert main(["serve"]) == 0
    assert broker.stopped == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--set", "bananas=1"], "Unknown setting bananas (--set)"),
        (["--set", "num.partitions=x"], "Not a number of type INT (--set)"),
        (["--set", "num.partitions"], "--set wants NAME=VALUE"),
        (["--listen", "here"], "--listen wants HOST:PORT"),
        (["--node-id", "one"], "Not a number of type INT"),
        (["--config", "/does/not/exist"], "--config /does/not/exist: No such file or directory"),
    ],
)
def test_settings_that_can_not_be_taken_are_one_line_and_exit_code_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_broker_that_can_not_start_is_one_line_and_an_exit_code(
    broker: type[StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    broker.error = DirectoryInUse("/d is in use by another process")
    assert main(["serve"]) == 3
    assert capsys.readouterr().err == "ottla serve: /d is in use by another process\n"
    assert broker.stopped == 1
    broker.error = OSError(errno.EADDRINUSE, "cannot listen on h:1: Address already in use")
    assert main(["serve"]) == 1
    assert capsys.readouterr().err == "ottla serve: cannot listen on h:1: Address already in use\n"


def test_settings_that_the_broker_itself_can_not_take_are_exit_code_2(
    broker: type[StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    broker.error = SettingError("log.dirs: several directories")
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == "ottla serve: log.dirs: several directories\n"


def test_a_fault_in_the_program_is_logged_with_its_traceback(
    broker: type[StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    broker.error = ZeroDivisionError("oops")
    assert main(["serve"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert err.endswith("ottla serve: oops\n")


def test_settings_of_kafkas_that_do_nothing_are_named_in_one_warning(
    broker: type[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "server.properties"
    file.write_text("num.io.threads=8\nzookeeper.clientCnxnSocket=C\nnum.partitions=2\n")
    assert main(["serve", "--config", str(file)]) == 0
    assert capsys.readouterr().err == (
        "ottla: warning: settings of Kafka's that do nothing here: num.io.threads, zookeeper.clientCnxnSocket\n"
    )


def test_options_are_stronger_than_set_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.properties"
    file.write_text(
        "listeners=PLAINTEXT://:1\nadvertised.listeners=PLAINTEXT://there:1\n"
        "inter.broker.listener.name=PLAINTEXT\nnum.partitions=2\nlog.dir=/file\nbroker.id=5\n"
    )
    monkeypatch.setenv("OTTLA_NUM_PARTITIONS", "3")
    monkeypatch.setenv("OTTLA_BOOTSTRAP", "elsewhere:1")
    arguments: dict[str, Any] = {"config": str(file), "listen": "127.0.0.1:0", "data": "/option"}
    config = config_of(arguments)
    assert config.num_partitions == 3
    assert config.data_directories == ("/option",)
    assert config.advertised_endpoints[0][:3] == ("PLAINTEXT", "127.0.0.1", 0)
    assert config.node_id == 5
    assert config_of({**arguments, "set": ["num.partitions=4"]}).num_partitions == 4
    assert config_of({**arguments, "node_id": "6"}).node_id == 6
    told = {**arguments, "set": ["advertised.listeners=FOO://there:1"]}
    with pytest.raises(SettingError, match="FOO"):  # --listen speaks against the file alone
        config_of(told)
    monkeypatch.setenv("OTTLA_ADVERTISED_LISTENERS", "PLAINTEXT://outside:7")
    assert config_of(arguments).advertised_endpoints[0][:3] == ("PLAINTEXT", "outside", 7)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_bytes(b"a=\xff")
    with pytest.raises(SettingError, match="not UTF-8"):
        config_of({"config": str(file)})


def test_a_log_level_that_nobody_knows_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTTLA_LOG_LEVEL", "LOUD")
    assert main(["serve"]) == 2
    assert "OTTLA_LOG_LEVEL=LOUD" in capsys.readouterr().err


def test_the_way_to_the_broker_imports_nothing_slow() -> None:
    program = """
import sys
from ottla.cli import entry
from ottla.cli import serve
serve._run = lambda config, level, place: print(sorted(
    {"typer", "click", "rich", "structlog", "msgspec", "cramjam", "ssl", "uuid", "difflib", "json"}
    & set(sys.modules))) or 0
sys.exit(entry.main(["serve", "--data", "d", "--set", "log.retention.ms=5", "--listen=:0"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_events_of_the_start_are_held_until_it_is_over() -> None:
    from ottla.cli.held_events import HeldEvents

    seen: list[str] = []

    class Target(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    def event(text: str, level: int = logging.INFO) -> logging.LogRecord:
        return logging.LogRecord("x", level, "", 0, text, None, None)

    held = HeldEvents(Target())
    held.handle(event("one"))
    held.handle(event("two"))
    assert seen == []
    held.hand_over()
    held.hand_over()
    held.handle(event("three"))
    assert seen == ["one", "two", "three"]

    held = HeldEvents(Target())
    held.handle(event("four"))
    held.handle(event("five", logging.ERROR))
    held.handle(event("six"))
    assert seen[3:] == ["four", "five", "six"]


def test_the_start_is_counted_from_the_start_of_the_process() -> None:
    assert 0 < serve_module.seconds_since_start() < 3600
