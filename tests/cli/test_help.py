"""Help, its reference page and man pages, and what a shell completes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ottla import Admin, NewTopic
from ottla.testing import Broker
from tests.cli.conftest import Ottla
from tools import cli_reference

BIN = Path(sys.executable).parent
PAGES = list(cli_reference.pages())


def test_the_reference_and_the_man_pages_say_what_the_help_says() -> None:
    assert cli_reference.stale() == [], "make docs writes them anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_explains_itself(page: cli_reference.Page) -> None:
    assert page.paragraphs
    assert re.match(r"0 ", page.exit_codes)
    assert all(option.text for option in (*page.arguments, *page.options)), page.options
    if not page.commands:
        assert page.examples
    assert all(len(line) <= 120 for line in page.examples)


def _ottla(*argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    return subprocess.run(
        argv, capture_output=True, text=True, env={**environment, **more}, check=False, timeout=60
    )


@pytest.mark.parametrize("columns", ["40", "300"])
def test_help_has_one_width_where_there_is_no_terminal(columns: str) -> None:
    done = _ottla("ottla", "topic", "create", "--help", COLUMNS=columns)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) == 100
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_man_page_is_well_formed(page: cli_reference.Page) -> None:
    text = cli_reference.man(page)
    sections = re.findall(r"^\.SH (.*)$", text, re.M)
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert {"EXIT STATUS", "ENVIRONMENT"} < set(sections)
    macros = set(re.findall(r"^\.(\w+)", text, re.M))
    assert macros <= {"TH", "SH", "PP", "TP", "B", "BR", "nf", "fi"}
    assert text.count("\n.nf\n") == text.count("\n.fi\n")


# Completion


def _bash(line: str, bootstrap: str) -> list[str]:
    """What bash completes ``line`` to, its last word being the one to complete."""
    words = line.split(" ")
    script = f"""
        eval "$(ottla completion bash)"
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
        COMP_CWORD={len(words) - 1}
        _ottla_completion ottla
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = _ottla("bash", "-c", script, OTTLA_BOOTSTRAP=bootstrap)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_topics_groups_and_settings(
    ottla_broker: Broker, ottla: Ottla
) -> None:
    with Admin(ottla_broker.bootstrap) as admin:
        admin.create_topics([NewTopic("weather.a", 1), NewTopic("weather.b", 1), NewTopic("z", 1)])
    assert ottla("produce", "z", stdin=b"x\n").code == 0
    read = ("consume", "z", "-g", "stroll", "--from-beginning", "--exit-at-end")
    assert ottla(*read).code == 0

    def completed(line: str) -> list[str]:
        return _bash(line, ottla_broker.bootstrap)

    assert completed("ottla to") == ["topic"]
    assert completed("ottla topic de") == ["delete", "describe"] or set(
        completed("ottla topic de")
    ) == {"delete", "describe"}
    assert "--from-beginning" in completed("ottla consume --from")
    assert completed("ottla topic describe wea") == ["weather.a", "weather.b"]
    assert completed("ottla consume wea") == ["weather.a", "weather.b"]
    assert completed("ottla group describe str") == ["stroll"]
    assert completed("ottla topic create t --set retention.m") == ["retention.ms="]
    assert completed("ottla serve --set num.par") == ["num.partitions="]


def test_completion_without_a_broker_offers_nothing_and_says_nothing() -> None:
    assert _bash("ottla topic describe wea", "127.0.0.1:1") == []


@pytest.mark.parametrize(
    ("shell", "instruction"), [("zsh", "complete_zsh"), ("fish", "complete_fish")]
)
def test_other_shells_are_answered_in_their_own_way(
    shell: str, instruction: str, ottla_broker: Broker
) -> None:
    with Admin(ottla_broker.bootstrap) as admin:
        admin.create_topic("weather.a")
    script = _ottla("ottla", "completion", shell)
    assert script.returncode == 0
    assert instruction in script.stdout
    done = _ottla(
        "ottla",
        _OTTLA_COMPLETE=instruction,
        _TYPER_COMPLETE_ARGS="ottla topic describe wea",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        OTTLA_BOOTSTRAP=ottla_broker.bootstrap,
    )
    assert "weather.a" in done.stdout
    assert done.stderr == ""


def test_an_unknown_shell_is_refused(ottla: Ottla) -> None:
    assert ottla("completion", "tcsh").code == 2


def test_completion_installs_itself(tmp_path: Path) -> None:
    done = _ottla("ottla", "completion", "bash", "--install", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.rglob("*ottla*")
    assert str(script) in done.stdout
    assert "_OTTLA_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


def test_help_lists_the_options_that_are_ours(ottla: Ottla) -> None:
    done = ottla("--help")
    assert "completion  " in done.out
    assert "--install-completion" not in done.out
    assert "--show-completion" not in done.out


def test_a_broker_starts_without_what_only_the_other_commands_need(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from ottla.cli import serve\n"
        "serve._serve = lambda *_: sys.exit(sorted({'typer', 'rich', 'ottla.cli.completion', "
        "'ottla.cli.doctor', 'multiprocessing'} & set(sys.modules)) or 0)\n"
        "from ottla.cli.entry import main\n"
        f"main(['serve', '--data', {str(tmp_path)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
