"""A FastStream application on its guide's words, with each of its Kafka backends."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.raw import RawClient
from tests.interop.requirements import require_module
from tests.interop.samples import Headers, Sample
from tests.support.waiting import DEADLINE_S, eventually

require_module("faststream", "faststream[kafka,confluent]")
ottla_client = require_module("tests.interop.ottla_client", "ottla")

pytestmark = pytest.mark.interop

TOPICS = {"in": 1, "out": 1, "numbers": 1, "sums": 1, "work": 4, "done": 1, "answers": 1}
# What each process says of its last subscriber; only an application of one process says that it is started.
STARTED = b"`Work` waiting for messages"


class Application:
    """``faststream run``, and the topics of the application."""

    def __init__(self, backend: str, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {"BACKEND": backend, "BROKER": bootstrap, "PREFIX": prefix}
        with RawClient(bootstrap) as raw:
            for topic, partitions in TOPICS.items():
                raw.create_topic(f"{prefix}.{topic}", partitions)

    def start(self, *options: str, processes: int = 1) -> None:
        """Run it, and wait until it says that it is started."""
        self._log.truncate(0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faststream", "run", *options, "application:app"],
            cwd=Path(__file__).parent,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            eventually(lambda: self.log().count(STARTED) >= processes, "it is started")
        except AssertionError as error:
            raise AssertionError(self.log().decode()) from error

    def stop(self) -> None:
        """Stop it as its user does, with Ctrl-C."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGINT)
            self._process.wait(DEADLINE_S)
            self._process = None

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        self._log.close()

    def log(self) -> bytes:
        """What it has printed since its start."""
        return os.pread(self._log.fileno(), 1 << 20, 0)

    def put(self, topic: str, value: object, headers: Headers = (), partition: int = 0) -> None:
        """Write a value as JSON."""
        sample = Sample(None, json.dumps(value).encode(), headers)
        ottla_client.write(self._bootstrap, f"{self._prefix}.{topic}", partition, "none", [sample])

    def name(self, topic: str) -> str:
        """A topic's whole name."""
        return f"{self._prefix}.{topic}"

    def records(self, topic: str) -> list[Any]:
        """All that is in a topic."""
        with RawClient(self._bootstrap) as raw:
            return raw.records(self.name(topic))

    def values(self, topic: str) -> list[Any]:
        """The values in a topic, from JSON."""
        return [json.loads(record.value) for record in self.records(topic)]


@pytest.fixture(params=["kafka", "confluent"])
def application(
    request: pytest.FixtureRequest, bootstrap: str, unused: str
) -> Iterator[Application]:
    """The application with one of its backends, not started."""
    it = Application(request.param, bootstrap, unused)
    yield it
    it.close()


def test_an_application_takes_publishes_batches_and_replies(application: Application) -> None:
    application.start()

    application.put("in", {"user": "John", "user_id": 1}, (("correlation_id", b"4711"),))
    (record,) = eventually(lambda: application.records("out"), "it publishes")
    assert record.value == b"User: John - 1 registered"
    assert dict(record.headers)["correlation_id"] == b"4711"

    # What it cannot take stops nothing.
    application.put("in", {"user": "Nobody", "user_id": -1})
    application.put(
        "in",
        {"user": "Ann", "user_id": 2},
        (("reply_to", application.name("answers").encode()), ("correlation_id", b"4712")),
    )
    (answer,) = eventually(lambda: application.records("answers"), "it replies")
    assert answer.value == b"User: Ann - 2 registered"
    assert dict(answer.headers)["correlation_id"] == b"4712"
    assert b"ValidationError" in application.log()

    for number in range(10):
        application.put("numbers", number)
    eventually(lambda: sum(application.values("sums")) == 45, "all are added once")


def test_workers_share_the_work_and_go_on_after_a_stop(application: Application) -> None:
    application.start("--workers", "2", processes=2)
    numbers = itertools.count()

    def both_have_worked() -> bool:
        for partition in range(4):
            application.put("work", next(numbers), partition=partition)
        return len({each["process"] for each in application.values("done")}) == 2

    eventually(both_have_worked, "both workers have some of the work")
    count = next(numbers)
    eventually(
        lambda: {each["number"] for each in application.values("done")} >= set(range(count)),
        "all is done",
    )
    application.stop()

    before = len(application.values("done"))
    application.put("work", count)
    application.start()
    eventually(lambda: len(application.values("done")) > before, "it goes on")
    assert [each["number"] for each in application.values("done")[before:]] == [count]
