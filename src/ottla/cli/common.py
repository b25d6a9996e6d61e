"""Options that several commands share, and the reading of what stands in them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.failures import CommandFailed, UsageError, one_line
from ottla.cli.offset_reset import Partition
from ottla.cli.output import Output

if TYPE_CHECKING:
    from ottla import Admin, KafkaError

ADMIN_TIMEOUT_S = 10.0
"""How long a command waits for a broker to answer: somebody sits in front of it."""

DEFAULT_BOOTSTRAP = "localhost:9092"


def _with_ports(text: str) -> str:
    """The addresses, each with its port; raises BadParameter, as Kafka's tools refuse them."""
    for address in filter(None, (part.strip() for part in text.split(","))):
        if not address.rpartition(":")[1] or address.endswith("]"):
            raise typer.BadParameter(f"expected HOST:PORT, got {address!r}")
    return text


COMMON_PANEL = "Connection and output"
"""Where help shows what all commands have in common."""

Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap-server",
        "-b",
        envvar="OTTLA_BOOTSTRAP",
        metavar="HOST:PORT,...",
        help="Broker to ask first, or several; the others are found through it.",
        rich_help_panel=COMMON_PANEL,
        callback=_with_ports,
    ),
]

OutputOption = Annotated[
    Output,
    typer.Option(
        "--output",
        "-o",
        help="A table for people or JSON for programs.",
        rich_help_panel=COMMON_PANEL,
    ),
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


@contextmanager
def connected_admin(bootstrap: str) -> Iterator[Admin]:
    """An admin client of the cluster at ``bootstrap``; raises UsageError for what is no address."""
    from ottla import Admin

    try:
        admin = Admin(
            bootstrap, request_timeout_ms=round(ADMIN_TIMEOUT_S * 1000), client_id="ottla-cli"
        )
    except ValueError as error:
        raise UsageError(f"--bootstrap-server: {error}") from None
    with reaching(bootstrap), admin:
        yield admin


@contextmanager
def reaching(bootstrap: str) -> Iterator[None]:
    """Say in plain words that no broker answers; raises CommandFailed."""
    from ottla import KafkaError

    try:
        yield
    except KafkaError as error:
        if is_unreachable(error):
            raise CommandFailed(f"no broker answers at {bootstrap}") from None
        raise


def is_unreachable(error: KafkaError) -> bool:
    """Whether an error says that there was nobody to ask."""
    from ottla import NoBrokerAvailable

    return isinstance(error, NoBrokerAvailable)


def refusal(error: KafkaError) -> str:
    """Why one of several things was refused, in one line; raises ``error`` where nobody was asked."""
    if is_unreachable(error):
        raise error
    return one_line(error)


def confirm(what: str, names: Sequence[str], *, yes: bool) -> None:
    """Ask on a terminal whether ``what`` is meant; raises CommandFailed for a no."""
    if yes or not sys.stdin.isatty():
        return
    listed = ", ".join(names)
    sys.stderr.write(f"{what} {listed}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandFailed("nothing was done")


def report(failures: dict[str, str], done: int) -> None:
    """Raise CommandFailed when some of several things failed, naming each."""
    if failures:
        listed = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise CommandFailed(f"{listed} ({done} done)" if done else listed)


def now_ms() -> int:
    """The wall clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def offsets_at(
    admin: Admin, partitions: Iterable[Partition], when: str | int
) -> dict[Partition, int]:
    """Each partition's offset at "earliest", "latest" or a time in milliseconds; none for none."""
    wanted = dict.fromkeys(partitions, when)
    found = admin.list_offsets(wanted) if wanted else {}
    return {(key.topic, key.partition): item.offset for key, item in found.items() if item}
