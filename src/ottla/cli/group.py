"""``ottla group``: show consumer groups and how far they are behind, and delete them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli import completion
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
from ottla.cli.group_reset import add_reset
from ottla.cli.lag import Committed, Lag, Owner, lag_of, total
from ottla.cli.manual import manual
from ottla.cli.offset_reset import Partition
from ottla.cli.output import Column, Output, Row, say, show_json, show_rows
from ottla.cli.times import format_duration

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.admin.descriptions import GroupDescription

app = typer.Typer(
    name="group",
    help="Show consumer groups and how far they are behind, move and delete them.",
    no_args_is_help=True,
)

FIRST_RECORDS_DEADLINE_S = 5.0
"""How long ``describe`` waits for the records whose age is the lag in seconds."""

Groups = Annotated[
    list[str],
    typer.Argument(metavar="GROUP", help="One group or several.", autocompletion=completion.groups),
]


@app.command(
    "list",
    help=manual("""
    List the consumer groups.

    Examples:

      ottla group list
      ottla group list -o json
    """),
)
def list_groups(
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, output: OutputOption = Output.table
) -> None:
    """List the consumer groups."""
    with connected_admin(bootstrap) as admin:
        found = admin.list_groups()
    rows: list[Row] = [
        {
            "group": item.group,
            "state": item.state,
            "type": item.group_type,
            "protocol_type": item.protocol_type,
        }
        for item in found
    ]
    show_rows(rows, [Column("group"), Column("state"), Column("protocol_type", "kind")], output)


@app.command(
    help=manual("""
    Show a group: its members, and for each partition what it has committed and how far it is behind.

    The lag in records is the log's end minus the committed offset. The lag in seconds is how long the oldest
    record that is not committed has been waiting: now minus that record's time; 0 where nothing waits. A
    dash: nothing committed, or not known.

    Examples:

      ottla group describe stroll
      ottla group describe stroll -o json
    """)
)
def describe(
    groups: Groups,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Show a group, its members and how far it is behind."""
    failures: dict[str, str] = {}
    shown: list[Row] = []
    with connected_admin(bootstrap) as admin:
        for name, group in admin.describe_groups(*groups).items():
            if isinstance(group, Exception):
                failures[name] = refusal(group)
                continue
            positions = _positions(admin, group)
            if group.state == "Dead" and not positions:
                failures[name] = "there is no such group"
                continue
            shown.append(_described(group, _lags(bootstrap, positions)))
    if output is Output.json:
        show_json(shown)
    else:
        for row in shown:
            _show_group(row)
    report(failures, 0)


@app.command(
    help=manual("""
    Delete groups without members, with what they have committed. On a terminal it asks first.

    Examples:

      ottla group delete stroll
      ottla group delete old.one old.two --yes
    """)
)
def delete(
    groups: Groups,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Delete groups without members."""
    confirm("Delete with their offsets:", groups, yes=yes)
    with connected_admin(bootstrap) as admin:
        outcome = admin.delete_groups(*groups)
    failures = {name: refusal(error) for name, error in outcome.items() if error is not None}
    done = [name for name, error in outcome.items() if error is None]
    if output is Output.json:
        show_json([{"group": name, "deleted": True} for name in done])
    else:
        for name in done:
            say(f"{name} deleted")
    report(failures, len(done))


def _positions(admin: Admin, group: GroupDescription) -> list[Committed]:
    """Every partition that the group has committed or reads."""
    committed: dict[Partition, int] = {
        (key.topic, key.partition): item.offset
        for key, item in admin.group_offsets(group.group).items()
    }
    owners: dict[Partition, Owner] = {
        (key.topic, key.partition): Owner(member.member_id, member.client_id, member.host)
        for member in group.members
        for key in member.partitions
    }
    topics = admin.describe_topics(*sorted({name for name, _ in [*committed, *owners]}))
    existing = {
        (name, partition.partition)
        for name, topic in topics.items()
        if not isinstance(topic, Exception)
        for partition in topic.partitions
    }
    wanted = sorted({*committed, *owners} & existing)
    starts = offsets_at(admin, wanted, "earliest")
    ends = offsets_at(admin, wanted, "latest")
    return [
        Committed(
            topic=key[0],
            partition=key[1],
            committed=committed.get(key),
            log_start=starts.get(key, 0),
            log_end=ends.get(key, 0),
            owner=owners.get(key),
        )
        for key in wanted
    ]


def _lags(bootstrap: str, positions: list[Committed]) -> list[Lag]:
    waiting = {
        (position.topic, position.partition): position.next_offset
        for position in positions
        if position.next_offset is not None
    }
    times = _first_times(bootstrap, waiting)
    now = now_ms()
    return [
        lag_of(position, times.get((position.topic, position.partition)), now)
        for position in positions
    ]


def _first_times(bootstrap: str, waiting: dict[Partition, int]) -> dict[Partition, int]:
    """The times of the records at these offsets, as far as they can be read before the deadline."""
    from ottla import Consumer

    result: dict[Partition, int] = {}
    if not waiting:
        return result
    deadline = time.monotonic() + FIRST_RECORDS_DEADLINE_S
    with Consumer(
        bootstrap=bootstrap,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=1,
        client_id="ottla-cli",
    ) as consumer:
        consumer.assign(waiting)
        for key, offset in waiting.items():
            consumer.seek(key, offset)
        while len(result) < len(waiting) and (left := deadline - time.monotonic()) > 0:
            for record in consumer.poll(min(left, 0.5)):
                result.setdefault((record.topic, record.partition), record.timestamp_ms)
            done = [key for key in waiting if key in result]
            if done:
                consumer.pause(*done)
    return result


def _described(group: GroupDescription, lags: list[Lag]) -> Row:
    records, seconds = total(lags)
    return {
        "group": group.group,
        "state": group.state,
        "assignor": group.assignor,
        "coordinator": group.coordinator.node_id,
        "lag": records,
        "lag_seconds": seconds,
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.group_instance_id,
                "client_id": member.client_id,
                "host": member.host,
                "partitions": [str(key) for key in member.partitions],
            }
            for member in group.members
        ],
        "partitions": [
            {
                "topic": lag.topic,
                "partition": lag.partition,
                "committed": lag.committed,
                "log_end": lag.log_end,
                "lag": lag.records,
                "lag_seconds": lag.seconds,
                "member_id": lag.owner.member_id if lag.owner else None,
                "client_id": lag.owner.client_id if lag.owner else None,
                "host": lag.owner.host if lag.owner else None,
                "note": lag.note,
            }
            for lag in lags
        ],
    }


def _show_group(row: Row) -> None:
    members, partitions = row["members"], row["partitions"]
    assert isinstance(members, list)
    assert isinstance(partitions, list)
    seconds = row["lag_seconds"]
    behind = format_duration(round(seconds * 1000)) if isinstance(seconds, float) else "-"
    assignor = f", assignor {row['assignor']}" if row["assignor"] else ""
    title = (
        f"{row['group']}: {row['state']}, {len(members)} members{assignor}, "
        f"lag {row['lag']} records, {behind}"
    )
    columns = [
        Column("topic"),
        Column("partition", numeric=True),
        Column("committed", numeric=True),
        Column("log_end", numeric=True),
        Column("lag", numeric=True),
        Column("lag_seconds", numeric=True),
        Column("client_id", "client"),
        Column("host"),
    ]
    if any(item["note"] for item in partitions):
        columns.append(Column("note"))
    show_rows(partitions, columns, Output.table, title=title)
    idle: list[Row] = [member for member in members if not member["partitions"]]
    if idle:
        columns = [
            Column("member_id", "idle member"),
            Column("client_id", "client"),
            Column("host"),
        ]
        show_rows(idle, columns, Output.table)


add_reset(app)
