"""``ottla consume``: records are written to standard output.

What is committed for a group is exactly what was written: a batch that a broken pipe or a second Ctrl-C cut
short is not committed, and comes again. A first SIGINT or SIGTERM ends it between two batches.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ottla.cli import completion
from ottla.cli.common import (
    ADMIN_TIMEOUT_S,
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    now_ms,
    reaching,
)
from ottla.cli.failures import UsageError
from ottla.cli.formats import DEFAULT_FORMAT, FIELDS, Writer, as_json, compile_format
from ottla.cli.manual import manual
from ottla.cli.offset_reset import Partition
from ottla.cli.output import Output
from ottla.cli.times import TIME_FORMS, parse_time

if TYPE_CHECKING:
    from ottla import Consumer
    from ottla.client.types import TopicPartition

POLL_S = 0.25
"""How long an idle consumer takes to notice a signal or that its reader is gone."""

RECORDS_PER_POLL = 500

HELP = manual(f"""
Write the records of topics to standard output, until Ctrl-C or as many as --max-messages says.

Without --group every partition is read, from its end on: what comes from now. With --group the group's
members share the partitions, go on where it had committed (from the end where it had not), and commit what
they wrote.

A format's fields: {FIELDS}. With --json every record is one JSON object on a line of its own; bytes that
are no UTF-8 stand in it as key_base64 and value_base64.

A time is {TIME_FORMS}.

Exit codes: 0 done, stopped by Ctrl-C, or nobody reads the output any more; 1 failed; 2 asked wrongly.

Examples:

  ottla consume weather.observations --from-beginning --max-messages 10
  ottla consume weather.observations --group stroll --format '%k %s\\n'
  ottla consume weather.observations --since '2h ago' --exit-at-end --json | jq .value
  ottla consume audit --partition 0 --offset -5 --exit-at-end
""")

Topics = Annotated[
    list[str],
    typer.Argument(metavar="TOPIC", help="One topic or several.", autocompletion=completion.topics),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        "-g",
        metavar="GROUP",
        help="Read as a member of this group.",
        autocompletion=completion.groups,
    ),
]
FromBeginning = Annotated[
    bool,
    typer.Option(
        "--from-beginning",
        help="Begin with the first record there is (with --group: where it has committed nothing).",
    ),
]
Offset = Annotated[
    int | None,
    typer.Option(
        "--offset",
        metavar="N",
        help="Begin at offset N of every partition; a negative one counts from the end.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Begin with the first record of that time or later."
    ),
]
PartitionOption = Annotated[
    list[int] | None,
    typer.Option(
        "--partition",
        "-p",
        min=0,
        metavar="N",
        help="Read this partition only. May be repeated. Not with --group.",
    ),
]
MaxMessages = Annotated[
    int | None,
    typer.Option("--max-messages", "-n", min=1, metavar="N", help="Stop after N records."),
]
ExitAtEnd = Annotated[
    bool,
    typer.Option(
        "--exit-at-end", "-e", help="Stop at the end of the log as it was at the beginning."
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="How a record is written; the fields are above. (default: %s\\n)",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Write JSON, one object a line; the same as -o json.")
]


class _Start(NamedTuple):
    """Where to begin: an offset or a time, or neither."""

    offset: int | None = None
    timestamp_ms: int | None = None

    @property
    def is_given(self) -> bool:
        return self.offset is not None or self.timestamp_ms is not None


def consume(
    topics: Topics,
    group: Group = None,
    from_beginning: FromBeginning = False,
    offset: Offset = None,
    since: Since = None,
    partition: PartitionOption = None,
    max_messages: MaxMessages = None,
    exit_at_end: ExitAtEnd = False,
    format: Format = None,
    json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Write the records of topics to standard output."""
    if sum((from_beginning, offset is not None, since is not None)) > 1:
        raise UsageError("--from-beginning, --offset and --since exclude each other")
    if partition and group is not None:
        raise UsageError(
            "--partition and --group exclude each other: a group shares all partitions"
        )
    write = _writer(format, as_json_lines=json or output is Output.json)
    start = _Start(offset, _time(since))
    from ottla import Consumer

    try:
        consumer = Consumer(
            group=group,
            bootstrap=bootstrap,
            auto_offset_reset="earliest" if from_beginning else "latest",
            client_id="ottla-consume",
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    with reaching(bootstrap), _signals() as stop, consumer:
        reading = _Reading(
            consumer, start, max_messages, exit_at_end=exit_at_end, in_group=group is not None
        )
        reading.begin(topics, partition)
        reading.write_all(write, stop)


class _Reading:
    """One consumer on its way through the log."""

    def __init__(
        self,
        consumer: Consumer,
        start: _Start,
        max_messages: int | None,
        *,
        exit_at_end: bool,
        in_group: bool,
    ) -> None:
        self._consumer = consumer
        self._in_group = in_group
        self._start = start
        self._left = max_messages
        self._exit_at_end = exit_at_end
        self._ends: dict[Partition, int] = {}
        self._positioned: set[Partition] = set()

    def begin(self, topics: list[str], numbers: list[int] | None) -> None:
        """Choose the partitions; raises KafkaError when nobody answers or a topic can't be had."""
        counts = {topic: self._consumer.partitions_for(topic, ADMIN_TIMEOUT_S) for topic in topics}
        if self._in_group or not (numbers or self._start.is_given or self._exit_at_end):
            # The reset policy says where to begin; partitions that are added later are read, too.
            self._consumer.subscribe(topics, on_assigned=self._on_assigned)
            return
        for topic, count in counts.items():
            missing = [number for number in numbers or () if number >= count]
            if missing:
                raise UsageError(f"topic {topic} has no partition {missing[0]}")
        chosen = [
            (topic, number) for topic, count in counts.items() for number in numbers or range(count)
        ]
        self._consumer.assign(chosen)
        self._take_on(chosen)

    def write_all(self, write: Writer, stop: list[int]) -> None:
        """Write records until there is a reason to stop."""
        out = sys.stdout.buffer
        while not stop and self._left != 0 and not self._is_at_end():
            most = RECORDS_PER_POLL if self._left is None else min(self._left, RECORDS_PER_POLL)
            records = self._consumer.poll(POLL_S, max_records=most)
            for record in records:
                out.write(write(record))
            if records:
                out.flush()
                if self._left is not None:
                    self._left -= len(records)
            elif _reader_is_gone(out.fileno()):
                raise BrokenPipeError

    def _on_assigned(self, partitions: list[TopicPartition]) -> None:
        self._take_on([(key.topic, key.partition) for key in partitions])

    def _take_on(self, partitions: list[Partition]) -> None:
        """Go to the start that was asked for, once a partition; note where its end is."""
        new = [key for key in partitions if key not in self._positioned]
        if not new:
            return
        self._positioned.update(new)
        ends: dict[Partition, int] = {}
        if self._exit_at_end or (self._start.offset or 0) < 0:
            found_ends = self._consumer.end_offsets(*new)
            ends = {(key.topic, key.partition): end for key, end in found_ends.items()}
        if self._exit_at_end:
            self._ends.update(ends)
        if self._start.timestamp_ms is not None:
            self._consumer.seek_to_time(max(self._start.timestamp_ms, 0), *new)
        elif self._start.offset is not None:
            starts = self._consumer.beginning_offsets(*new)
            for found, first in starts.items():
                key = (found.topic, found.partition)
                offset = self._start.offset
                wanted = offset if offset >= 0 else ends[key] + offset
                self._consumer.seek(key, max(wanted, first))

    def _is_at_end(self) -> bool:
        """Whether everything that was there at the beginning has been written."""
        assigned = self._consumer.assignment()
        if not self._exit_at_end or not assigned or not self._positioned.issuperset(assigned):
            return False
        return all(self._ends[key] <= self._consumer.position(key) for key in assigned)


def _writer(format: str | None, *, as_json_lines: bool) -> Writer:
    if as_json_lines:
        if format is not None:
            raise UsageError("--format and --json exclude each other")
        return as_json
    try:
        return compile_format(DEFAULT_FORMAT if format is None else format)
    except ValueError as error:
        raise UsageError(f"--format: {error}") from None


def _time(since: str | None) -> int | None:
    if since is None:
        return None
    try:
        return parse_time(since, now_ms())
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None


def _reader_is_gone(descriptor: int) -> bool:
    """Whether the other end of the pipe is closed, which else only a write would tell."""
    if not hasattr(select, "poll"):  # Windows: the next write tells
        return False
    poller = select.poll()
    poller.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that came: one ends the reading, the next one the process."""
    seen: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)

    previous = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield seen
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
