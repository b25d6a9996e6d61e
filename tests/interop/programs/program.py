"""A client of another language: a program that carries out calls, one line of JSON each.

Rule: one process for each client and broker, started at the first call and ended with the broker, so that a
module pays for a start once.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.interop.programs.fetch import GO_CLIENTS, HERE, NODE_CLIENTS, CannotFetch, cached, fetch
from tests.interop.requirements import REQUIRE_ALL, leave_out
from tests.interop.samples import Sample
from tests.support.waiting import DEADLINE_S

_running: dict[tuple[str, str], Program] = {}


class Refused(Exception):
    """A call that failed, with Kafka's error code where the client tells it."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Program:
    """A running client."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **environment},
        )
        self._unread = b""

    def call(self, op: str, **args: object) -> Any:
        """Have it do something; its result. Raises Refused."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"op": op, "args": args}).encode() + b"\n")
        stdin.flush()
        answer = json.loads(self._line(op))
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def close(self) -> None:
        """End it: it sees the end of its input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _line(self, op: str) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + 2 * DEADLINE_S
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stdout], [], [], max(0, deadline - time.monotonic()))
            data = os.read(stdout.fileno(), 1 << 20) if ready else b""
            assert data, f"no answer to {op}: {self._said()}"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4_000:]


def program(client: str, bootstrap: str) -> Program:
    """A client at work for a broker; the test is left out where it is not to be had."""
    if (client, bootstrap) not in _running:
        command, environment = _command(client, bootstrap)
        _running[client, bootstrap] = Program(command, environment)
    return _running[client, bootstrap]


def stop_programs(bootstrap: str) -> None:
    """End all that work for a broker."""
    for key in [key for key in _running if key[1] == bootstrap]:
        _running.pop(key).close()


def _command(client: str, bootstrap: str) -> tuple[list[str], dict[str, str]]:
    place = _have(client)
    if client in GO_CLIENTS:
        return [place, client, bootstrap], {}
    script = str(HERE / "javascript" / "program.js")
    return ["node", script, NODE_CLIENTS[client], bootstrap], {"NODE_PATH": place}


def _have(client: str) -> str:
    try:
        place = cached(client)
        if place is None and os.environ.get(REQUIRE_ALL) == "1":
            place = fetch(client)
    except CannotFetch as error:
        leave_out(f"{client}: {error}")
    if place is None:
        leave_out(f"{client} is not here: python -m tests.interop.programs.fetch {client}")
    return str(place)


def encoded(sample: Sample) -> dict[str, object]:
    """A sample as a program takes it."""
    return {
        "key": _text(sample.key),
        "value": _text(sample.value),
        "headers": [[name, _text(value)] for name, value in sample.headers],
        "timestamp": sample.timestamp_ms,
    }


def sample_of(record: Mapping[str, Any]) -> Sample:
    """A program's record as a sample."""
    return Sample(
        _bytes(record["key"]),
        _bytes(record["value"]),
        tuple((name, _bytes(value)) for name, value in record["headers"]),
        record["timestamp"],
    )


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
