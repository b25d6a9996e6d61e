"""``ottla log salvage``: bring a damaged partition back without what is damaged."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ottla.cli.common import OutputOption
from ottla.cli.failures import CommandFailed, UsageError
from ottla.cli.manual import manual
from ottla.cli.output import Output, say, show_json

SALVAGE_HELP = manual("""
Keep what is whole of a damaged partition, so that its broker serves it again.

Every whole batch stays, at its offset. What is damaged is left out: its offsets are missing from then on, as
in a compacted topic, and are given to no other record; consumers go on behind them. The files of rewritten
segments are kept beside the new ones as ....log.damaged; remove them when nobody wants to look at them any
more. Restoring the partition's files from a backup loses less, if there is one.

The broker must be stopped. Restart it afterwards: the partition is no longer quarantined.

Exit codes: 0 done, 1 the broker is running or a file can't be read, 2 asked wrongly.

Examples:

  ottla log salvage data/weather.observations-0
""")


def salvage(
    directory: Annotated[
        str, typer.Argument(metavar="DIRECTORY", help="The partition's directory.")
    ],
    output: OutputOption = Output.table,
) -> None:
    """Keep what is whole of a damaged partition."""
    from ottla.log.disk import Disk
    from ottla.log.names import parse_directory_name
    from ottla.log.salvage import salvage as run

    path = os.path.abspath(directory)
    if not os.path.isdir(path) or parse_directory_name(os.path.basename(path)) is None:
        raise UsageError(f"{directory} is not a partition's directory")
    try:
        done = run(Disk(), path)
    except BlockingIOError:
        raise CommandFailed(f"a broker is using {os.path.dirname(path)}: stop it before") from None
    if output is Output.json:
        show_json({"directory": path, **done._asdict()})
        return
    say(f"{path}: {done.batches:,} batches kept, the log goes on at offset {done.end_offset}")
    for first, last in done.lost:
        say(f"  lost: offsets {first} to {last}")
    for kept in done.kept:
        say(f"  as it was: {kept}")
