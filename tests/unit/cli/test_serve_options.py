"""The options of ``ottla serve``: one table, two parsers."""

from __future__ import annotations

import inspect

import pytest
import typer
from typer.testing import CliRunner

from ottla.cli import serve, serve_command
from ottla.cli.serve_options import (
    SERVE_OPTIONS,
    Arguments,
    overridden_by,
    parse,
    settings_of,
)
from ottla.settings.definitions import SettingError


def test_plain_options_are_read() -> None:
    argv = ["--data", "d", "--listen=:1", "--set", "a=b=c", "--set=d=e", "--node-id", "7"]
    assert parse(argv) == {"data": ["d"], "listen": [":1"], "set": ["a=b=c", "d=e"], "node_id": "7"}
    assert parse([]) == {}
    assert parse(["--node-id", "1", "--node-id", "2"]) == {"node_id": "2"}


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["-h"], ["x"], ["--data"], ["--data", "--listen"], ["--dat", "x"], ["--", "x"]],
)
def test_what_is_not_plain_goes_to_typer(argv: list[str]) -> None:
    assert parse(argv) is None


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--data", "d", "--listen", "h:1", "--advertise", "a:2", "--node-id", "3"],
        ["--config=f", "--set", "a=1", "--set=b=2"],
    ],
)
def test_both_parsers_read_the_same(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Arguments] = []

    def fake_serve(arguments: Arguments) -> int:
        seen.append({name: value for name, value in arguments.items() if value})
        return 0

    monkeypatch.setattr(serve, "serve", fake_serve)
    app = typer.Typer()
    serve_command.add_serve(app)
    result = CliRunner().invoke(app, argv)
    assert result.exit_code == 0, result.output
    assert seen == [parse(argv)]


def test_every_option_has_help_and_stands_in_the_commands_help() -> None:
    app = typer.Typer()
    serve_command.add_serve(app)
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for option in SERVE_OPTIONS:
        assert option.help
        assert option.flag in shown
    assert "Examples" in shown
    assert inspect.signature(serve_command.add_serve)


def test_options_stand_for_settings() -> None:
    assert settings_of({}) == {}
    assert settings_of({"data": "d", "node_id": "3"}) == {"log.dirs": "d", "node.id": "3"}
    found = settings_of({"listen": "[::1]:0", "advertise": "example:5"})
    assert found["listeners"] == "PLAINTEXT://[::1]:0"
    assert found["advertised.listeners"] == "PLAINTEXT://example:5"
    assert settings_of({"listen": ":9092"}) == {"listeners": "PLAINTEXT://:9092"}
    assert overridden_by({"listen": ":9092"})["advertised.listeners"] == ""
    assert overridden_by({"data": "d"}) == {}
    with pytest.raises(SettingError, match="--listen wants HOST:PORT, got '9092'"):
        settings_of({"listen": "9092"})


def test_data_given_several_times_is_several_log_directories() -> None:
    arguments = parse(["--data", "/a", "--data=/b"])
    assert arguments is not None
    assert settings_of(arguments) == {"log.dirs": "/a,/b"}
