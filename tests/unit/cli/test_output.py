"""Tables and JSON."""

from __future__ import annotations

import json
import os
import pty
import sys

import pytest

from ottla.cli.output import Column, Output, Row, note, show_rows

COLUMNS = [Column("topic"), Column("log_end", "log end", numeric=True), Column("isr", "in sync")]
ROWS: list[Row] = [
    {"topic": "a" * 150, "log_end": 5, "isr": [1, 2], "internal": False},
    {"topic": "b", "log_end": None, "isr": []},
]


def test_a_table_in_a_pipe_is_plain_and_never_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, COLUMNS, Output.table)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TOPIC", "LOG_END", "IN_SYNC"]
    assert lines[1].split() == ["a" * 150, "5", "1,2"]
    assert lines[2].split() == ["b", "-"]
    assert all(line == line.rstrip() for line in lines)


def test_json_holds_every_entry_with_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, COLUMNS, Output.json)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_notes_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    note("careful")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "careful\n")


def test_a_table_on_a_terminal_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("COLUMNS", "60")
        show_rows(
            [{"topic": "[bold]x", "log_end": 1.25, "isr": True}],
            COLUMNS,
            Output.table,
            title="Topics",
        )
        stream.flush()
        text = os.read(controller, 10_000).decode()
    os.close(controller)
    assert "Topics" in text
    assert "[bold]x" in text
    assert "1.2" in text
    assert "─" in text
