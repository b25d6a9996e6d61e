"""The command, called in this process against the broker of the test."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ottla.cli.entry import main
from ottla.testing import Broker


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
