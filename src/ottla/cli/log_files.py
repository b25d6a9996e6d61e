"""``ottla log``: look into a broker's files, and where they lie."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from ottla.cli.common import DEFAULT_BOOTSTRAP, Bootstrap, OutputOption
from ottla.cli.failures import EXIT_FAILED, CommandFailed
from ottla.cli.formats import put_bytes
from ottla.cli.log_salvage import SALVAGE_HELP, salvage
from ottla.cli.log_verify import VERIFY_HELP, verify
from ottla.cli.manual import manual
from ottla.cli.output import Column, Output, Row, note, say, show_rows

app = typer.Typer(name="log", help="Look into a broker's files.", no_args_is_help=True)

Files = Annotated[list[str], typer.Argument(metavar="SEGMENT", help="One file or several.")]
Records = Annotated[
    bool, typer.Option("--records", "-r", help="Show each record of a segment, too.")
]
Contents = Annotated[
    bool, typer.Option("--contents", "-c", help="Show records with their keys and values.")
]


app.command("verify", help=VERIFY_HELP)(verify)
app.command("salvage", help=SALVAGE_HELP)(salvage)


@app.callback()
def log() -> None:
    """Look into a broker's files."""


@app.command(
    help=manual("""
    Show what is in a file of a log: a segment (.log), its indexes (.index, .timeindex), the producers'
    state (.snapshot), or one of the small files of a partition or a data directory (checkpoints,
    partition.metadata, meta.properties).

    A line is a batch, an entry, a producer, with Kafka's own field names. With -o json every line is a JSON
    object; keys and values that are no UTF-8 stand in it as key_base64 and payload_base64. Files are only
    read; a broker may be using them.

    Exit codes: 0 the files are sound, 1 one is damaged or can't be read, 2 asked wrongly.

    Examples:

      ottla log dump data/weather.observations-0/00000000000000000000.log
      ottla log dump data/weather.observations-0/00000000000000000000.log --contents -o json
      ottla log dump data/weather.observations-0/*index data/meta.properties
    """)
)
def dump(
    files: Files,
    records: Records = False,
    contents: Contents = False,
    output: OutputOption = Output.table,
) -> None:
    """Show what is in a file of a log."""
    from ottla.log.dump import UnknownFile, to_line
    from ottla.log.dump import dump as lines_of

    damaged: dict[str, None] = {}
    for path in files:
        if output is Output.table and len(files) > 1:
            say(f"{path}:")
        try:
            for fields in lines_of(path, deep=records, contents=contents):
                if "error" in fields:
                    damaged[path] = None
                if output is Output.json:
                    _write_json(fields if len(files) == 1 else {"file": path, **fields})
                else:
                    say(to_line(fields))
        except UnknownFile as error:
            raise CommandFailed(str(error)) from None
        except BrokenPipeError:  # the output's reader has gone, and nothing is wrong with the file
            raise
        except OSError as error:
            raise CommandFailed(f"{path}: {error.strerror}") from None
    if damaged:
        raise CommandFailed(f"damaged: {', '.join(damaged)}")


@app.command(
    "dirs",
    help=manual("""
    Show the brokers' log directories: how much room there is in each, and how many partitions lie there.

    An offline directory is one whose disk failed. A partition that is on its way into a directory counts
    as moving. With --partitions a row is a partition, with its size and what it lacks of the log.

    Exit codes: 0 all directories work, 1 one is offline or a broker does not answer, 2 asked wrongly.

    Examples:

      ottla log dirs
      ottla log dirs --partitions -o json
    """),
)
def dirs(
    partitions: Annotated[
        bool, typer.Option("--partitions", "-p", help="A row for each partition.")
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Show the brokers' log directories."""
    from ottla.cli.common import connected_admin

    with connected_admin(bootstrap) as admin:
        found = admin.describe_log_dirs()
    rows: list[Row] = []
    for directory in found:
        where: Row = {"broker": directory.broker, "directory": directory.path}
        if partitions:
            rows += [{**where, **replica._asdict()} for replica in directory.replicas]
            continue
        rows.append(
            {
                **where,
                "offline": directory.error is not None,
                "total_bytes": _known(directory.total_bytes),
                "usable_bytes": _known(directory.usable_bytes),
                "partitions": sum(not one.is_future for one in directory.replicas),
                "moving": sum(one.is_future for one in directory.replicas),
                "size_bytes": sum(one.size_bytes for one in directory.replicas),
            }
        )
    show_rows(rows, _REPLICA_COLUMNS if partitions else _DIRECTORY_COLUMNS, output)
    offline = [directory.path for directory in found if directory.error is not None]
    if offline:
        note(f"offline: {', '.join(offline)}")
        raise typer.Exit(EXIT_FAILED)


_PLACE = (Column("broker", numeric=True), Column("directory"))
_DIRECTORY_COLUMNS = (
    *_PLACE,
    Column("offline"),
    Column("total_bytes", numeric=True),
    Column("usable_bytes", numeric=True),
    Column("partitions", numeric=True),
    Column("moving", numeric=True),
    Column("size_bytes", numeric=True),
)
_REPLICA_COLUMNS = (
    *_PLACE,
    Column("topic"),
    Column("partition", numeric=True),
    Column("size_bytes", numeric=True),
    Column("offset_lag", numeric=True),
    Column("is_future", "moving"),
)


def _known(size_bytes: int) -> int | None:
    return size_bytes if size_bytes >= 0 else None


def _write_json(fields: Mapping[str, object]) -> None:
    import msgspec

    result: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, bytes | memoryview):
            put_bytes(result, name, bytes(value))
        else:
            result[name] = value
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
