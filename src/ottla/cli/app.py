"""The commands, put together. Imported only for what is not a plain ``ottla serve``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer._completion_classes import completion_init

from ottla.cli import cluster, consume, group, log_files, partition, produce, store, topic
from ottla.cli.completion import COMPLETION_HELP, completion
from ottla.cli.doctor.command import DOCTOR_HELP, doctor
from ottla.cli.manual import manual
from ottla.cli.serve_command import add_serve
from ottla.cli.version import VERSION

_HELP = manual("""Event streaming with Kafka's protocol and files: a broker, and tools for any Kafka cluster.

Start a broker with `ottla serve`, then produce to it and consume from it.

  ottla serve
  echo hello | ottla produce greetings
  ottla consume greetings --from-beginning --max-messages 1

-b HOST:PORT (or the environment variable OTTLA_BOOTSTRAP) says which cluster; without it,
localhost:9092. -o json gives output for programs. Exit codes: 0 done, 1 failed, 2 asked wrongly.
""")


def build() -> typer.Typer:
    """The typer application with every command."""
    completion_init()  # whatever add_completion says, a shell that asks is answered
    app = typer.Typer(
        name="ottla",
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,  # ottla completion is ours
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )

    @app.callback()
    def root(
        version: Annotated[
            bool,
            typer.Option(
                "--version", help="Show the version and exit.", callback=_version, is_eager=True
            ),
        ] = False,
    ) -> None:
        pass

    add_serve(app)
    app.add_typer(topic.app)
    app.command("produce", help=produce.HELP)(produce.produce)
    app.command("consume", help=consume.HELP)(consume.consume)
    app.add_typer(group.app)
    app.add_typer(partition.app)
    app.add_typer(cluster.app)
    app.add_typer(log_files.app)
    app.add_typer(store.app)
    app.command("completion", help=COMPLETION_HELP)(completion)
    app.command("doctor", help=DOCTOR_HELP)(doctor)
    return app


def command() -> Any:
    """The click command of the application."""
    return typer.main.get_command(build())


def _version(asked: bool) -> None:
    if asked:
        from ottla.records.chosen_loops import choice

        typer.echo(f"ottla {VERSION}\nrecord codec: {choice}")
        raise typer.Exit
