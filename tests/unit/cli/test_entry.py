"""The way in: help, version, mistakes and their exit codes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ottla.cli.entry import main
from ottla.cli.manual import manual
from ottla.cli.version import VERSION
from ottla.records.chosen_loops import choice


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


SHOWN = f"ottla {VERSION}\nrecord codec: {choice}\n"


def test_the_version_is_shown_and_which_record_codec_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == SHOWN


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bananas"], "No such command 'bananas'"),
        (["serve", "--bananas"], "No such option: --bananas"),
        (["topic", "list", "-b", "foo"], "expected HOST:PORT, got 'foo'"),
        (["consume", "t", "-b", "a:1,[::1]"], "expected HOST:PORT, got '[::1]'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_without_arguments_help_is_shown_and_the_exit_code_is_2(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    captured = capfd.readouterr()
    assert "Usage" in captured.out + captured.err


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ottla", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, SHOWN)


def test_help_texts_keep_their_examples_and_join_their_paragraphs() -> None:
    assert (
        manual("One\ntwo [x].\n\n  a b\n  c\n\nEnd.\n")
        == "One two \\[x].\n\n\b\n  a b\n  c\n\nEnd."
    )
