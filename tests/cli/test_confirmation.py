"""On a terminal, what can't be undone is asked first."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from ottla.testing import Broker
from tests.cli.conftest import Ottla

DEADLINE_S = 30.0


def _answer(broker: Broker, answer: bytes, *argv: str) -> tuple[int, str, str]:
    controller, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "ottla", *argv, "-b", broker.bootstrap],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.write(controller, answer)
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        os.close(controller)
        os.close(terminal)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(("answer", "stays"), [(b"n\n", True), (b"\n", True), (b"y\n", False)])
def test_a_topic_is_deleted_only_after_a_yes(
    ottla_broker: Broker, ottla: Ottla, answer: bytes, stays: bool
) -> None:
    ottla("topic", "create", "precious")
    code, out, err = _answer(ottla_broker, answer, "topic", "delete", "precious")
    assert err.startswith("Delete with all records: precious? [y/N] ")
    assert (code, out) == ((1, "") if stays else (0, "precious deleted\n"))
    assert ("nothing was done" in err) == stays
    assert bool(ottla("topic", "list", "-o", "json").json) == stays


def test_nothing_is_asked_with_yes(ottla_broker: Broker, ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    code, out, err = _answer(ottla_broker, b"", "topic", "delete", "t", "--yes")
    assert (code, out, err) == (0, "t deleted\n", "")
