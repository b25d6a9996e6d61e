"""How events are written: on a terminal, as JSON, escaped, cut, and not without end."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ottla import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_a_line_where_nobody_watches() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    log = logs.logger("ottla.somewhere")
    log.info("a thing happened", topic="t", count=3)
    log.debug("not at this level")
    (event,) = written(stream)
    assert event.pop("timestamp").endswith("+00:00")
    assert event == {
        "level": "info", "logger": "ottla.somewhere", "event": "a thing happened",
        "topic": "t", "count": 3,
    }  # fmt: skip


def test_a_terminal_gets_columns_and_no_command_of_a_peers() -> None:
    stream = Terminal()
    logs.configure("INFO", stream)
    logs.logger("x").warning("a peer said", client="\x1b[2J\x1b]0;owned\x07\r\nlevel=error")
    text = stream.getvalue()
    assert "a peer said" in text
    assert "owned" in text
    assert not any(command in text for command in ("\x1b[2J", "\x1b]0", "\x07", "\r"))
    assert text.count("\n") == 1


def test_a_field_cannot_pass_for_the_events_own() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    logs.logger("x").info("an event", level="error", timestamp="never", logger="somebody")
    (event,) = written(stream)
    assert (event["level"], event["logger"]) == ("info", "x")


def test_what_is_long_is_cut_and_bytes_are_counted_only() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    logs.logger("x").info("long", name="n" * 100_000, names=["n" * 100_000], raw=b"secret")
    (event,) = written(stream)
    assert len(event["name"]) < 2_100
    assert len(event["names"]) < 2_100
    assert event["raw"] == "6 bytes"


def test_a_traceback_keeps_its_lines_and_loses_its_control_characters() -> None:
    stream = Terminal()
    logs.configure("INFO", stream)
    try:
        raise ValueError("\x1b[31mred")
    except ValueError as error:
        logs.logger("x").error("it failed", error=error)
    text = stream.getvalue()
    assert "ValueError" in text
    assert "\x1b[31mred" not in text
    assert "[31mred" in text
    assert text.count("\n") > 3


@pytest.mark.parametrize(("fields", "burst", "rate"), [({}, 200, 2.0), ({"peer": "p"}, 50, 0.5)])
def test_an_event_that_is_repeated_without_end_is_written_so_often_only(
    fields: dict[str, str], burst: int, rate: float
) -> None:
    now = 0.0
    flood = logs._Flood(lambda: now)

    def passes(event: str = "cut off") -> bool:
        record = logging.LogRecord("x", logging.WARNING, "", 0, event, (), None)
        vars(record)["fields"] = dict(fields)
        passed = flood.filter(record)
        if passed and "suppressed" in vars(record)["fields"]:
            kept_back.append(vars(record)["fields"]["suppressed"])
        return passed

    kept_back: list[int] = []
    assert sum(passes() for _ in range(10_000)) == burst
    assert passes("another event")
    now = 1 / rate
    assert [passes(), passes()] == [True, False]
    assert kept_back == [10_000 - burst]
    now = 86_400.0
    assert sum(passes() for _ in range(10_000)) == burst


def test_the_memory_of_repeated_events_is_bounded() -> None:
    flood = logs._Flood(lambda: 0.0)
    for number in range(5_000):
        assert flood.filter(logging.LogRecord("x", 20, "", 0, f"event {number}", (), None))
    assert len(flood._buckets) <= 1_000


def test_a_service_writes_json_and_imports_nothing_that_draws() -> None:
    program = """
import sys
from ottla import logs
logs.configure("INFO")
logs.logger("ottla.test").warning("disk nearly full", path="/data", free_bytes=5, kind=ValueError)
print(sorted({"rich", "structlog"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    assert event.pop("timestamp")
    assert event == {
        "level": "warning",
        "logger": "ottla.test",
        "event": "disk nearly full",
        "path": "/data",
        "free_bytes": 5,
        "kind": "<class 'ValueError'>",
    }
