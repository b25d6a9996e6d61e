"""kcat as the tests use it: a process for each thing."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tests.interop.requirements import require_program
from tests.interop.samples import TEXT_SAMPLES, Sample
from tests.support.waiting import DEADLINE_S

KCAT = require_program("kcat", "kcat")

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WRITABLE = TEXT_SAMPLES
KEY_DELIMITER = "|"


def kcat(
    bootstrap: str, *arguments: str, stdin: bytes = b"", check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run kcat to its end."""
    done = subprocess.run(
        [KCAT, "-b", bootstrap, "-m", str(int(DEADLINE_S)), *arguments],
        input=stdin,
        capture_output=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done


class Running:
    """A kcat that goes on until it is killed; what it prints goes to a file."""

    def __init__(self, bootstrap: str, *arguments: str) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        self._process = subprocess.Popen(
            [KCAT, "-q", "-u", "-b", bootstrap, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._output.close()

    def kill(self) -> None:
        """End it without a farewell."""
        self._process.kill()
        self._process.wait()

    def lines(self) -> list[bytes]:
        """The whole lines that it has printed so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).split(b"\n")[:-1]


def write(
    bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
) -> None:
    """Write the samples; records with the same headers by one process, as headers are its arguments."""
    for headers, same in groupby(samples, key=lambda sample: sample.headers):
        options: list[str] = []
        for name, value in headers:
            options += ["-H", name if value is None else f"{name}={value.decode()}"]
        lines = [_line(sample) for sample in same]
        kcat(
            bootstrap,
            *("-P", "-t", topic, "-p", str(partition), "-z", codec, "-Z", "-K", KEY_DELIMITER),
            *options,
            stdin=b"".join(lines),
        )


def _line(sample: Sample) -> bytes:
    """``key|value``, where nothing is null."""
    assert sample.key != b""
    assert sample.value != b""
    return (sample.key or b"") + KEY_DELIMITER.encode() + (sample.value or b"") + b"\n"


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
    """The first ``count`` records of a partition."""
    place = ("-C", "-t", topic, "-p", str(partition), "-o", "beginning")
    return [sample_of(record) for record in records(bootstrap, *place, "-c", str(count))]


def records(bootstrap: str, *arguments: str) -> list[dict[str, Any]]:
    """The records that kcat prints as JSON."""
    return [record_of(line) for line in kcat(bootstrap, "-J", *arguments).stdout.splitlines()]


def record_of(line: bytes) -> dict[str, Any]:
    """A line of kcat's JSON. It writes bytes as they are, not as UTF-8, so each stands for itself."""
    record: dict[str, Any] = json.loads(line.decode("latin-1"))
    return record


def sample_of(record: dict[str, Any]) -> Sample:
    """A printed record as a sample."""
    flat = record.get("headers", [])
    headers = tuple(
        ((_bytes(name) or b"").decode(), _bytes(value))
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    )
    return Sample(_bytes(record["key"]), _bytes(record["payload"]), headers, record["ts"])


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1")
