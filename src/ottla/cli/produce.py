"""``ottla produce``: lines become records.

Reading stops at the first record that could not be delivered; what was taken before it is still sent, and
the summary counts what the broker acknowledged.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Protocol

import typer

from ottla.cli import completion
from ottla.cli.common import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    is_unreachable,
    reaching,
)
from ottla.cli.failures import CommandFailed, UsageError, one_line
from ottla.cli.formats import unescape
from ottla.cli.manual import manual
from ottla.cli.output import Output, note, show_json

if TYPE_CHECKING:
    from ottla.client.producer.sync import Producer
    from ottla.client.types import RecordMetadata
    from ottla.errors import KafkaError

LINE_BYTES_MAX = 64 * 1024 * 1024
PROGRESS_EVERY_S = 0.1
MAX_BLOCK_MS = 30_000
"""How long a record waits for an unknown topic or for room among those that are not acknowledged."""
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
ACKS = ("all", "1", "0")

HELP = manual("""
Send lines to a topic, each as one record: from standard input, or from --file.

A line's value is its bytes without the line's end (\\n or \\r\\n). With --key-separator the part before the first separator
is the record's key. Without a key, records are spread over the partitions. A summary goes to standard error
when all are acknowledged; on a terminal a bar shows how far it is.

Exit codes: 0 every record was acknowledged, 1 one was not, 2 asked wrongly, 130 stopped by Ctrl-C.

Examples:

  echo hello | ottla produce greetings
  ottla produce prices --key-separator : --header source=manual
  ottla produce events --file events.jsonl --compression zstd
  ottla produce table --key-separator '\\t' --null-marker '' < deletions.tsv
""")


Topic = Annotated[
    str,
    typer.Argument(help="Topic to send to.", metavar="TOPIC", autocompletion=completion.topics),
]
KeySeparator = Annotated[
    str | None,
    typer.Option(
        "--key-separator",
        "-K",
        metavar="TEXT",
        help="What stands between a line's key and its value; \\t is a tab. A line without it is an error.",
    ),
]
Header = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        "-H",
        metavar="NAME=VALUE",
        help="Header for every record. May be repeated.",
    ),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="Read the lines from FILE and not from standard input.",
    ),
]
Partition = Annotated[
    int | None,
    typer.Option(
        "--partition", "-p", min=0, metavar="N", help="Send everything to this partition."
    ),
]
NullMarker = Annotated[
    str | None,
    typer.Option(
        "--null-marker",
        metavar="TEXT",
        help="A value that is just this text becomes null: a deletion, in a compacted topic.",
    ),
]
Compression = Annotated[
    str,
    typer.Option(
        "--compression",
        "-z",
        metavar="CODEC",
        help="none, gzip, snappy, lz4 or zstd.",
    ),
]
Acks = Annotated[
    str,
    typer.Option(
        "--acks",
        metavar="ACKS",
        help="Whose acknowledgement counts: all (every in-sync replica), 1 (the leader), 0 (nobody is "
        "asked).",
    ),
]


def produce(
    topic: Topic,
    key_separator: KeySeparator = None,
    header: Header = None,
    file: File = None,
    partition: Partition = None,
    null_marker: NullMarker = None,
    compression: Compression = "none",
    acks: Acks = "all",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Send lines to a topic, each as one record."""
    if compression not in COMPRESSIONS:
        raise UsageError(f"--compression is one of {', '.join(COMPRESSIONS)}, not {compression!r}")
    if acks not in ACKS:
        raise UsageError(f"--acks is one of {', '.join(ACKS)}, not {acks!r}")
    lines = _Lines(_separator(key_separator), _headers(header or []), null_marker)
    with _input(file) as (stream, size):
        interactive = stream.isatty()
        if interactive:
            note(f"One record a line for {topic}; Ctrl-D ends.")
        tally = _Tally()
        with (
            reaching(bootstrap),
            _producer(bootstrap, acks, compression, interactive) as producer,
            _progress(topic, size, interactive) as progress,
        ):
            _send_all(producer, topic, partition, lines, stream, tally, progress)
    _summarise(topic, tally, output)


class _Lines:
    """Takes lines apart into keys and values; ``headers`` are every record's."""

    def __init__(
        self,
        separator: bytes | None,
        headers: list[tuple[str, bytes | None]],
        null_marker: str | None,
    ) -> None:
        self.headers = headers
        self._separator = separator
        self._null = None if null_marker is None else null_marker.encode()

    def split(self, line: bytes, number: int) -> tuple[bytes | None, bytes | None]:
        """Key and value of a line; raises CommandFailed for a line without the separator."""
        key: bytes | None = None
        value: bytes | None = line
        if self._separator is not None:
            before, found, value = line.partition(self._separator)
            if not found:
                raise CommandFailed(f"line {number} has no key separator {self._separator!r}")
            key = before
        if value == self._null:
            value = None
        return key, value


class _Tally:
    """What became of the records; written by the producer's thread, read when it is done."""

    def __init__(self) -> None:
        self.taken = 0
        self.delivered = 0
        self.failed = 0
        self.bytes = 0
        self.error: KafkaError | None = None
        self.started = time.monotonic()

    def on_delivery(self, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        """Count one record."""
        if error is None:
            self.delivered += 1
        else:
            self.failed += 1
            self.error = self.error or error

    @property
    def seconds(self) -> float:
        """How long it has been taking."""
        return time.monotonic() - self.started


class _Progress(Protocol):
    def show(self, records: int, position: int) -> None: ...


class _Silent:
    def show(self, records: int, position: int) -> None:
        """Nobody is watching."""


def _send_all(
    producer: Producer,
    topic: str,
    partition: int | None,
    lines: _Lines,
    stream: BinaryIO,
    tally: _Tally,
    progress: _Progress,
) -> None:
    from ottla.errors import KafkaError

    headers = lines.headers or None
    shown_at = 0.0
    for number, line in enumerate(_read_lines(stream), 1):
        if tally.failed:
            break
        key, value = lines.split(line, number)
        try:
            producer.send(
                topic,
                value,
                key,
                partition=partition,
                headers=headers,
                on_delivery=tally.on_delivery,
            )
        except KafkaError as error:
            if is_unreachable(error) and not tally.taken:
                raise
            tally.on_delivery(None, error)
            break
        tally.taken += 1
        tally.bytes += len(line) + 1
        now = time.monotonic()
        if now - shown_at >= PROGRESS_EVERY_S:
            shown_at = now
            progress.show(tally.delivered, tally.bytes)
    producer.flush()
    progress.show(tally.delivered, tally.bytes)


def _read_lines(stream: BinaryIO) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise CommandFailed(f"line {number} is longer than {LINE_BYTES_MAX} bytes")
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _summarise(topic: str, tally: _Tally, output: Output) -> None:
    seconds = max(tally.seconds, 1e-9)
    if output is Output.json:
        show_json(
            {
                "topic": topic,
                "records": tally.delivered,
                "failed": tally.failed,
                "bytes": tally.bytes,
                "seconds": round(seconds, 3),
            }
        )
    else:
        records = "1 record" if tally.delivered == 1 else f"{tally.delivered:,} records"
        note(
            f"{records} ({tally.bytes / 1e6:,.1f} MB) to {topic} "
            f"in {seconds:.2f} s: {tally.delivered / seconds:,.0f} records/s"
        )
    if tally.error is not None:
        raise CommandFailed(f"{tally.failed:,} not delivered: {one_line(tally.error)}")


def _separator(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        separator = unescape(text).encode("utf-8", "surrogateescape")
    except ValueError as error:
        raise UsageError(f"--key-separator: {error}") from None
    if not separator:
        raise UsageError("--key-separator must not be empty")
    return separator


def _headers(texts: list[str]) -> list[tuple[str, bytes | None]]:
    result: list[tuple[str, bytes | None]] = []
    for text in texts:
        name, found, value = text.partition("=")
        if not found or not name:
            raise UsageError(f"--header wants NAME=VALUE, got {text!r}")
        result.append((name, value.encode("utf-8", "surrogateescape")))
    return result


@contextmanager
def _input(file: Path | None) -> Iterator[tuple[BinaryIO, int | None]]:
    """Where the lines come from, and how many bytes there are when that is known."""
    if file is None:
        yield sys.stdin.buffer, None
        return
    with open(file, "rb") as stream:
        yield stream, file.stat().st_size if file.is_file() else None


@contextmanager
def _producer(bootstrap: str, acks: str, compression: str, interactive: bool) -> Iterator[Producer]:
    from ottla.client.producer.sync import Producer

    try:
        producer = Producer(
            bootstrap,
            acks=acks,
            idempotent=acks == "all",
            compression=None if compression == "none" else compression,
            linger_ms=0 if interactive else 5,
            max_block_ms=MAX_BLOCK_MS,
            client_id="ottla-produce",
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        yield producer
    finally:
        producer.close()


@contextmanager
def _progress(topic: str, size: int | None, interactive: bool) -> Iterator[_Progress]:
    """A bar on standard error when that is a terminal and the lines are not typed in there."""
    if interactive or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(topic, total=size, records=0)

    class Drawn:
        def show(self, records: int, position: int) -> None:
            """Draw how far it is."""
            bar.update(task, completed=position, records=records)

    with bar:
        yield Drawn()
