"""``ottla doctor``: what is wrong, why that matters, what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from ottla.cli.common import OutputOption
from ottla.cli.completion import broker_settings
from ottla.cli.doctor.diagnosis import ERROR, INFO, WARNING, Diagnoses
from ottla.cli.failures import UsageError
from ottla.cli.manual import manual
from ottla.cli.output import Output, say, show_json

DOCTOR_HELP = manual("""
Say what is wrong with a broker's data directory, with its settings, or with the address that a client uses.

Without options it looks at the settings that ottla serve would start with here (the environment, ./data) and
at their data directories; with --config, --set and --data at those of another start. With -b it looks at an
address instead, the way a client does: whether the name is known, whether something answers, whether that is
a Kafka broker and of which versions, and whether the addresses that it advertises can be reached from here.

The data directory of several brokers (ottla serve --brokers) is looked at as a whole: whether
ottla-brokers.json and the brokers' directories agree, their store, the data of each, and who runs.

A finding says what is wrong, why that matters and what to do. An "error" does not work or will not, a
"warning" works and is perhaps not what is wanted, an "info" is worth knowing. Nothing is changed, and a broker
may be running. ottla log verify reads the records themselves.

Exit codes: 0 no errors, 1 errors were found, 2 asked wrongly.

Examples:

  ottla doctor
  ottla doctor --data data
  ottla doctor --config server.properties
  ottla doctor -b localhost:9092 -o json
""")


def doctor(
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="DIR", help="A data directory. May be repeated."),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="A server.properties file.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="One setting. May be repeated.",
            autocompletion=broker_settings,
        ),
    ] = None,
    bootstrap: Annotated[
        str | None,
        typer.Option(
            "--bootstrap-server", "-b", metavar="HOST:PORT,...", help="A client's address."
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Say what is wrong with data, settings or an address."""
    found = Diagnoses()
    if bootstrap is not None:
        _look_at_addresses(found, bootstrap)
    if bootstrap is None or data or config or settings:
        _look_at_a_broker(found, data or [], config, settings or [])
    if output is Output.json:
        show_json([item._asdict() for item in found.all])
    else:
        _show(found)
    if found.count(ERROR):
        raise typer.Exit(1)


def _look_at_addresses(found: Diagnoses, bootstrap: str) -> None:
    from ottla.cli.doctor.address import AddressDoctor
    from ottla.settings.listeners import split_address
    from ottla.settings.setting import SettingError

    addresses = []
    for text in filter(None, (part.strip() for part in bootstrap.split(","))):
        try:
            host, port = split_address("-b", text if ":" in text else f"{text}:9092")
        except SettingError:
            raise UsageError(f"--bootstrap-server wants HOST:PORT, got {text!r}") from None
        addresses.append((host or "localhost", port))
    if not addresses:
        raise UsageError("--bootstrap-server wants HOST:PORT")
    for host, port in addresses:
        AddressDoctor(found).look_at(host, port)


def _look_at_a_broker(
    found: Diagnoses, data: Sequence[str], config: str | None, assignments: Sequence[str]
) -> None:
    from ottla.cli.doctor.settings import SettingsDoctor
    from ottla.cli.doctor.several import brokers_on, look_at_data
    from ottla.settings import sources
    from ottla.settings.setting import SettingError

    try:
        given = [
            sources.from_file(_text_of(config), config) if config is not None else [],
            sources.from_environment(os.environ),
            sources.from_assignments(assignments),
            sources.from_options({"log.dirs": ",".join(data)} if data else {}, "--data"),
        ]
    except SettingError as error:
        raise UsageError(str(error)) from None
    settled = SettingsDoctor(found, brokers_on=brokers_on).look_at(given)
    look_at_data(found, settled, settled.data_directories if settled is not None else data)


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--config {path}: the file is not UTF-8") from None


def _show(found: Diagnoses) -> None:
    for severity in (ERROR, WARNING, INFO):
        for item in found.all:
            if item.severity != severity:
                continue
            say(f"{severity}: {item.subject}: {item.what}")
            if item.why:
                say(f"    why: {item.why}")
            if item.fix:
                say(f"    do:  {item.fix}")
    errors, warnings = found.count(ERROR), found.count(WARNING)
    say(f"{errors} errors, {warnings} warnings" if errors or warnings else "Nothing is wrong.")
