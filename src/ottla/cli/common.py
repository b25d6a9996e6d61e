"""Options that several commands share, and the reading of what stands in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from ottla.cli.failures import UsageError
from ottla.cli.output import Output

DEFAULT_BOOTSTRAP = "localhost:9092"

Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap-server",
        "-b",
        envvar="OTTLA_BOOTSTRAP",
        metavar="HOST:PORT,...",
        help="Broker to ask first, or several; the others are found through it.",
    ),
]

OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="A table for people or JSON for programs."),
]


def assignments(texts: Iterable[str], option: str, *, of: str = "NAME=VALUE") -> dict[str, str]:
    """``NAME=VALUE`` texts as a dict; raises UsageError."""
    result: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise UsageError(f"{option} wants {of}, got {text!r}")
        result[name.strip()] = value
    return result
