"""The command, called in this process against the broker of the test."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ottla.cli.entry import main
from ottla.testing import Broker
from tests.support.zookeeper import zookeeper

__all__ = ["zookeeper"]


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line."""
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Ottla = Callable[..., Done]


@pytest.fixture
def ottla(
    ottla_broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Ottla:
    """Call the command; ``stdin`` is what it reads."""
    monkeypatch.setenv("OTTLA_BOOTSTRAP", ottla_broker.bootstrap)

    def call(*argv: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        code = main(list(argv))
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Ottla:
    """Call the command without any broker, in a directory and an environment with nothing in them."""
    for name in [name for name in os.environ if name.startswith(("OTTLA_", "KAFKA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> Done:
        capfd.readouterr()
        code = main(list(argv))
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call


def plant_other_topic_id(data: Path) -> None:
    """Let the partition t-0 belong to another topic of that name."""
    (data / "t-0" / "partition.metadata").write_text("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABQ")
