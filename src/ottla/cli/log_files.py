"""``ottla log``: look into a broker's files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from ottla.cli.common import OutputOption
from ottla.cli.failures import CommandFailed
from ottla.cli.formats import put_bytes
from ottla.cli.manual import manual
from ottla.cli.output import Output, say

app = typer.Typer(name="log", help="Look into a broker's files.", no_args_is_help=True)

Files = Annotated[list[str], typer.Argument(metavar="SEGMENT", help="One file or several.")]
Records = Annotated[
    bool, typer.Option("--records", "-r", help="Show each record of a segment, too.")
]
Contents = Annotated[
    bool, typer.Option("--contents", "-c", help="Show records with their keys and values.")
]


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
      ottla log dump data/weather.observations-0/*index data/recovery-point-offset-checkpoint
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
        except OSError as error:
            raise CommandFailed(f"{path}: {error.strerror}") from None
    if damaged:
        raise CommandFailed(f"damaged: {', '.join(damaged)}")


def _write_json(fields: Mapping[str, object]) -> None:
    import msgspec

    result: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, bytes | memoryview):
            put_bytes(result, name, bytes(value))
        else:
            result[name] = value
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
