"""One JVM for many tests: ``src/Host.java`` beside it runs Java clients and Kafka's tools."""

from __future__ import annotations

import atexit
import base64
import json
import select
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.interop.requirements import leave_out
from tests.support.java import POM, MissingTool, java

CALL_TIMEOUT_S = 90.0


class JavaError(Exception):
    """An exception of the Java side: its class and its message."""

    def __init__(self, name: str, message: str | None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message or ""


class Done(NamedTuple):
    """A tool that has ended."""

    status: int
    out: str
    err: str


class Host:
    """The JVM; ``call`` is one call of it. Not for several threads."""

    def __init__(self, pom: Path = POM) -> None:
        self._process = subprocess.Popen(
            java("Host", pom=pom),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def call(self, room: str, **fields: Any) -> Any:
        """What a room answers. Raises ``JavaError`` with the exception's class."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"room": room, **fields}).encode() + b"\n")
        stdin.flush()
        if not select.select([stdout], [], [], CALL_TIMEOUT_S)[0]:
            self._process.kill()
            raise TimeoutError(f"no answer within {CALL_TIMEOUT_S} s to {room} {fields}")
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the JVM ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise JavaError(answer["error"]["error"], answer["error"]["message"])
        return answer["result"]

    def tool(self, main: str, arguments: Sequence[str], stdin: bytes = b"") -> Done:
        """Run a tool's main class to its end."""
        text = base64.b64encode(stdin).decode()
        return Done(**self.call("tool", main=main, arguments=list(arguments), input=text))

    def admin(self, bootstrap: str, verb: str, **fields: Any) -> Any:
        """One call of the Admin client."""
        return self.call("admin", bootstrap=bootstrap, verb=verb, **fields)

    def send(self, settings: Mapping[str, object], records: Sequence[Mapping[str, Any]]) -> Any:
        """Send records with a producer of these settings: partition, offset, timestamp, or the error, of each."""
        return self.call("producer", settings=settings, records=records)

    def close(self) -> None:
        """End the JVM."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@cache
def host(pom: Path = POM) -> Host:
    """The JVM of this process with the jars of ``pom``, started for the first who asks.

    The test is left out where Java is missing.
    """
    try:
        made = Host(pom)
    except MissingTool as missing:
        leave_out(str(missing))
    atexit.register(made.close)
    return made
