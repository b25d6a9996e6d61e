"""``ottla topic trim``: delete a topic's oldest records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.common import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    confirm,
    connected_admin,
    now_ms,
    offsets_at,
    refusal,
    report,
)
from ottla.cli.failures import UsageError
from ottla.cli.manual import manual
from ottla.cli.offset_reset import Partition, parse_selection, select
from ottla.cli.output import Column, Output, Row, show_rows
from ottla.cli.times import TIME_FORMS, parse_time
from ottla.errors import ErrorCode

if TYPE_CHECKING:
    from ottla import KafkaError, TopicPartition

ALL = -1
"""DeleteRecords takes it for the high watermark."""

HELP = manual(f"""
Delete the oldest records of a topic, or of some of its partitions, for good. What is left keeps its
offsets. On a terminal it asks first.

A time is {TIME_FORMS}. Topics with cleanup.policy=compact keep their records.

Examples:

  ottla topic trim weather.observations --before-time '2d ago'
  ottla topic trim weather.observations:0 --before-offset 1000 --yes
  ottla topic trim scratch --all
""")


def add_trim(app: typer.Typer) -> None:
    """Add the command to the topic's."""
    app.command("trim", help=HELP)(trim)


def trim(
    topics: Annotated[
        list[str],
        typer.Argument(metavar="TOPIC[:0,2-4]", help="A topic, or some partitions of it."),
    ],
    before_offset: Annotated[
        int | None,
        typer.Option("--before-offset", min=0, metavar="N", help="The records below offset N."),
    ] = None,
    before_time: Annotated[
        str | None,
        typer.Option(
            "--before-time",
            metavar="TIME",
            help="The records in front of the first one of that time or later.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All records that there are now.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Delete a topic's oldest records."""
    if [before_offset is not None, before_time is not None, everything].count(True) != 1:
        raise UsageError("say which records with one of --before-offset, --before-time, --all")
    timestamp_ms = None
    if before_time is not None:
        try:
            timestamp_ms = parse_time(before_time, now_ms())
        except ValueError as error:
            raise UsageError(str(error)) from None
    selection = parse_selection(topics)
    confirm("Delete the oldest records for good:", topics, yes=yes)
    with connected_admin(bootstrap) as admin:
        existing = {
            name: [each.partition for each in found.partitions]
            for name, found in admin.describe_topics(*selection).items()
            if not isinstance(found, Exception)
        }
        wanted = select(selection, existing)
        starts = offsets_at(admin, wanted, "earliest")
        targets = dict.fromkeys(wanted, ALL if before_offset is None else before_offset)
        if timestamp_ms is not None:
            targets.update(offsets_at(admin, wanted, max(timestamp_ms, 0)))
        outcome = admin.delete_records(targets)
    _tell(outcome, starts, output)


def _tell(
    outcome: Mapping[TopicPartition, int | KafkaError],
    starts: dict[Partition, int],
    output: Output,
) -> None:
    failures: dict[str, str] = {}
    rows: list[Row] = []
    for (topic, partition), found in outcome.items():
        if isinstance(found, Exception):
            failures[f"{topic}:{partition}"] = _why(topic, found)
        else:
            rows.append(_row((topic, partition), starts, found))
    columns = [
        Column("topic"),
        Column("partition", numeric=True),
        Column("log_start", numeric=True),
        Column("offsets_deleted", numeric=True),
    ]
    if rows or output is Output.json:
        show_rows(rows, columns, output)
    report(failures, len(rows))


def _why(topic: str, error: KafkaError) -> str:
    """DeleteRecords answers with a code alone."""
    reason = refusal(error)
    if error.code != ErrorCode.POLICY_VIOLATION:
        return reason
    return (
        f"{reason}: cleanup.policy is compact, so the last record of each key stays. A record without a value "
        f"takes its key away; with ottla topic alter {topic} --set cleanup.policy=compact,delete the oldest "
        "records may be deleted, too"
    )


def _row(partition: Partition, starts: dict[Partition, int], start: int) -> Row:
    before = starts.get(partition)
    return {
        "topic": partition[0],
        "partition": partition[1],
        "log_start": start,
        "offsets_deleted": None if before is None else max(start - before, 0),
    }
