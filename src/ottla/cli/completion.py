"""What a shell offers when somebody presses Tab: topics and groups from the broker, settings by name.

Rules: a broker has a second to answer, and none at all is no failure: nothing is offered then. Nothing is
written but what the shell asked for. The scripts are typer's; they ask ``ottla`` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.manual import manual

if TYPE_CHECKING:
    from ottla import Admin

BROKER_TIMEOUT_MS = 1_000
COMPLETION_VARIABLE = "_OTTLA_COMPLETE"

COMPLETION_HELP = manual("""
Write the completion script of a shell to standard output.

With it Tab completes commands and options, the names of topics and groups (the broker of -b or
OTTLA_BOOTSTRAP is asked, and has a second to answer) and of settings. --install puts it where the shell finds
it, and has the shell's start file read it.

Examples:

  ottla completion bash --install
  ottla completion bash > ~/.local/share/bash-completion/completions/ottla
  ottla completion zsh > ~/.zfunc/_ottla
  ottla completion fish > ~/.config/fish/completions/ottla.fish
""")


class Shell(StrEnum):
    """The shells that there is a script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
    install: Annotated[
        bool, typer.Option("--install", help="Put it into the home directory, and say where.")
    ] = False,
) -> None:
    """Write a shell's completion script."""
    from typer import _completion_shared as scripts

    if install:
        _, path = scripts.install(
            shell=shell.value, prog_name="ottla", complete_var=COMPLETION_VARIABLE
        )
        typer.echo(f"{path}: completion for {shell.value}, from its next start on")
        return
    typer.echo(
        scripts.get_completion_script(
            prog_name="ottla", complete_var=COMPLETION_VARIABLE, shell=shell.value
        )
    )


def topics(ctx: typer.Context, incomplete: str) -> list[str]:
    """The topics whose names begin so."""
    return _starting(_ask(ctx, lambda admin: admin.list_topics()), incomplete)


def groups(ctx: typer.Context, incomplete: str) -> list[str]:
    """The groups whose names begin so."""
    return _starting(
        _ask(ctx, lambda admin: [group.group for group in admin.list_groups()]), incomplete
    )


def topic_settings(incomplete: str) -> list[tuple[str, str]]:
    """The topic settings whose names begin so, each as ``NAME=``."""
    from ottla.settings.topic_settings import TOPIC_SETTINGS

    return [
        (f"{name}=", setting.doc)
        for name, setting in TOPIC_SETTINGS.items()
        if f"{name}=".startswith(incomplete)
    ]


def topic_setting_names(incomplete: str) -> list[tuple[str, str]]:
    """The topic settings whose names begin so."""
    return [(name.removesuffix("="), doc) for name, doc in topic_settings(incomplete)]


def broker_settings(incomplete: str) -> list[tuple[str, str]]:
    """The broker settings whose names begin so, each as ``NAME=``."""
    from ottla.settings.broker_settings import BROKER_SETTINGS, documentation

    return [
        (f"{name}=", documentation(setting))
        for name, setting in BROKER_SETTINGS.items()
        if f"{name}=".startswith(incomplete)
    ]


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _ask(ctx: typer.Context, question: Callable[[Admin], Iterable[str]]) -> list[str]:
    """What the broker answers, or nothing."""
    import logging
    import os

    from ottla import Admin, KafkaError
    from ottla.cli.common import DEFAULT_BOOTSTRAP

    given = ctx.params.get("bootstrap") or os.environ.get("OTTLA_BOOTSTRAP") or DEFAULT_BOOTSTRAP
    logging.disable(logging.CRITICAL)  # somebody is typing on the line that it would appear in
    try:
        with Admin(
            given, request_timeout_ms=BROKER_TIMEOUT_MS, client_id="ottla-completion"
        ) as admin:
            return list(question(admin))
    except (KafkaError, OSError, ValueError):
        return []
