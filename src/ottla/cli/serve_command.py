"""``ottla serve`` for typer: help, completion and errors, made of the same options as the quick parser."""

from __future__ import annotations

import inspect

import typer

from ottla.cli.completion import broker_settings
from ottla.cli.manual import manual
from ottla.cli.serve_options import SERVE_OPTIONS

_HELP = manual("""Run a broker in this process until SIGTERM or SIGINT (Ctrl-C).

One line says when it is ready and where it listens. Settings have Kafka's names; the stronger source wins:
built-in defaults, --config FILE, the environment (OTTLA_LOG_RETENTION_MS=..., or KAFKA_LOG_RETENTION_MS=...
as Kafka's container images take it), --set, the options below. OTTLA_LOG_LEVEL says how much is logged to
standard error (DEBUG, INFO, WARNING, ERROR).

Exit codes: 0 stopped cleanly, 1 could not start or failed, 2 a setting that can't be taken, 3 another broker has the data directory.

Examples:

  ottla serve
  ottla serve --data /var/lib/ottla --listen 0.0.0.0:9092 --advertise broker.example:9092
  ottla serve --listen 127.0.0.1:0 --set log.retention.hours=24 --set num.partitions=3
  ottla serve --config server.properties
  ottla serve --brokers 4 --data /var/lib/ottla
""")


def add_serve(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    def serve(**values: object) -> int:
        from ottla.cli.serve import serve as run

        arguments = {
            name: list(value) if isinstance(value, tuple | list) else value
            for name, value in values.items()
            if value is None or isinstance(value, str | tuple | list)
        }
        code = run(arguments)
        if code:
            raise typer.Exit(code)
        return code

    parameters = []
    for option in SERVE_OPTIONS:
        default = typer.Option(
            [] if option.repeatable else None,
            option.flag,
            metavar=option.metavar,
            help=option.help,
            show_default=False,
            autocompletion=broker_settings if option.name == "set" else None,
        )
        annotation = list[str] if option.repeatable else str | None
        parameters.append(
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
        )
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {item.name: item.annotation for item in parameters}
    app.command("serve", help=_HELP)(serve)
