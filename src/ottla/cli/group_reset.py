"""``ottla group reset``: move a group to other offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli import completion
from ottla.cli.common import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    connected_admin,
    now_ms,
    offsets_at,
)
from ottla.cli.failures import CommandFailed, UsageError
from ottla.cli.manual import manual
from ottla.cli.offset_reset import (
    Kind,
    Move,
    Partition,
    Position,
    Target,
    parse_selection,
    plan,
    select,
    target_of,
)
from ottla.cli.output import Column, Output, Row, note, show_rows
from ottla.cli.times import DURATION_FORMS, TIME_FORMS

if TYPE_CHECKING:
    from ottla import Admin

TopicOption = Annotated[
    list[str] | None,
    typer.Option(
        "--topic",
        "-t",
        metavar="TOPIC[:0,2-4]",
        help="A topic, or some partitions of it. May be repeated.",
        autocompletion=completion.topics,
    ),
]
AllTopics = Annotated[
    bool, typer.Option("--all-topics", help="Every partition for which the group has an offset.")
]
ToEarliest = Annotated[bool, typer.Option("--to-earliest", help="To the first record there is.")]
ToLatest = Annotated[bool, typer.Option("--to-latest", help="Behind the last record there is.")]
ToOffset = Annotated[
    int | None, typer.Option("--to-offset", min=0, metavar="N", help="To offset N.")
]
ShiftBy = Annotated[
    int | None,
    typer.Option("--shift-by", metavar="N", help="N records on, or back where N is negative."),
]
ToDatetime = Annotated[
    str | None,
    typer.Option(
        "--to-datetime", metavar="TIME", help="To the first record of that time or later."
    ),
]
ByDuration = Annotated[
    str | None,
    typer.Option(
        "--by-duration", metavar="DURATION", help="To the first record that is no older than that."
    ),
]
Execute = Annotated[bool, typer.Option("--execute", help="Do it.")]

HELP = manual(f"""
Move a group to other offsets. It shows what would happen, and does it only with --execute. The group
must have no members.

A new offset never leaves the log: what lies before its start becomes the start, past its end the end.
A time is {TIME_FORMS}; a duration {DURATION_FORMS}.

Examples:

  ottla group reset stroll --all-topics --to-earliest
  ottla group reset stroll --topic weather.observations --to-datetime '2h ago' --execute
  ottla group reset stroll --topic weather.observations:0,2 --shift-by -100 --execute
""")


def add_reset(app: typer.Typer) -> None:
    """Add the command to the group's."""
    app.command("reset", help=HELP)(reset)


def reset(
    group: Annotated[
        str,
        typer.Argument(metavar="GROUP", help="The group.", autocompletion=completion.groups),
    ],
    topic: TopicOption = None,
    all_topics: AllTopics = False,
    to_earliest: ToEarliest = False,
    to_latest: ToLatest = False,
    to_offset: ToOffset = None,
    shift_by: ShiftBy = None,
    to_datetime: ToDatetime = None,
    by_duration: ByDuration = None,
    execute: Execute = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Move a group to other offsets; a dry run without --execute."""
    target = target_of(
        to_earliest=to_earliest,
        to_latest=to_latest,
        to_offset=to_offset,
        shift_by=shift_by,
        to_datetime=to_datetime,
        by_duration=by_duration,
        now_ms=now_ms(),
    )
    if all_topics == bool(topic):
        raise UsageError("say which partitions with --topic or --all-topics")
    with connected_admin(bootstrap) as admin:
        _require_no_members(admin, group)
        committed: dict[Partition, int] = {
            (key.topic, key.partition): item.offset
            for key, item in admin.group_offsets(group).items()
        }
        wanted = list(committed) if all_topics else _selected(admin, topic or [])
        if not wanted:
            raise CommandFailed(f"group {group} has no committed offsets")
        moves = plan(target, _reset_positions(admin, target, wanted, committed))
        if execute:
            admin.alter_group_offsets(
                group, {(move.topic, move.partition): move.new_offset for move in moves}
            )
    _show_moves(moves, output, executed=execute)


def _require_no_members(admin: Admin, group: str) -> None:
    from ottla.errors import ErrorCode, KafkaError

    try:
        found = admin.describe_group(group)
    except KafkaError as error:
        if error.code is ErrorCode.GROUP_ID_NOT_FOUND:
            return  # a new group may be given its first offsets
        raise
    if found.members:
        count = len(found.members)
        members = "1 member; stop it" if count == 1 else f"{count} members; stop them"
        raise CommandFailed(f"group {group} has {members} first")


def _selected(admin: Admin, texts: list[str]) -> list[Partition]:
    selection = parse_selection(texts)
    existing = {
        name: [partition.partition for partition in topic.partitions]
        for name, topic in admin.describe_topics(*selection).items()
        if not isinstance(topic, Exception)
    }
    return select(selection, existing)


def _reset_positions(
    admin: Admin, target: Target, wanted: list[Partition], committed: dict[Partition, int]
) -> list[Position]:
    starts = offsets_at(admin, wanted, "earliest")
    ends = offsets_at(admin, wanted, "latest")
    at_time: dict[Partition, int] = {}
    if target.kind is Kind.TIME:
        at_time = offsets_at(admin, wanted, max(target.timestamp_ms, 0))
    return [
        Position(key[0], key[1], committed.get(key), starts[key], ends[key], at_time.get(key))
        for key in wanted
        if key in starts and key in ends
    ]


def _show_moves(moves: list[Move], output: Output, *, executed: bool) -> None:
    rows: list[Row] = [
        {
            "topic": move.topic,
            "partition": move.partition,
            "committed": move.committed,
            "new_offset": move.new_offset,
            "log_start": move.log_start,
            "log_end": move.log_end,
            "note": move.note,
            "executed": executed,
        }
        for move in moves
    ]
    columns = [
        Column("topic"),
        Column("partition", numeric=True),
        Column("committed", numeric=True),
        Column("new_offset", numeric=True),
        Column("log_start", numeric=True),
        Column("log_end", numeric=True),
    ]
    if any(move.note for move in moves):
        columns.append(Column("note"))
    show_rows(rows, columns, output)
    if not executed:
        note("Nothing was changed: this was a dry run. Add --execute to do it.")
