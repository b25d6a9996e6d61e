"""``ottla topic``: make, show, change and delete topics."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli import completion
from ottla.cli.common import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    assignments,
    confirm,
    connected_admin,
    offsets_at,
    refusal,
    report,
)
from ottla.cli.failures import UsageError
from ottla.cli.manual import manual
from ottla.cli.offset_reset import Partition
from ottla.cli.output import Column, Output, Row, say, show_json, show_rows
from ottla.cli.topic_trim import add_trim

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.admin.descriptions import ConfigEntry, TopicDescription

app = typer.Typer(name="topic", help="Make, show, change and delete topics.", no_args_is_help=True)

Topics = Annotated[
    list[str],
    typer.Argument(metavar="TOPIC", help="One topic or several.", autocompletion=completion.topics),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "--config",
        metavar="NAME=VALUE",
        help="A setting of the topic, as retention.ms=3600000. May be repeated.",
        autocompletion=completion.topic_settings,
    ),
]


@app.command(
    help=manual("""
    Make topics.

    Without --partitions and --replication-factor the broker's defaults hold (num.partitions,
    default.replication.factor).

    Examples:

      ottla topic create weather.observations --partitions 3
      ottla topic create audit --set retention.ms=-1 --set compression.type=zstd --if-not-exists
    """)
)
def create(
    topics: Topics,
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", "-p", min=1, metavar="N", help="How many partitions."),
    ] = None,
    replication_factor: Annotated[
        int | None,
        typer.Option(
            "--replication-factor", "-r", min=1, metavar="N", help="How many replicas of each."
        ),
    ] = None,
    settings: SetOption = None,
    if_not_exists: Annotated[
        bool,
        typer.Option("--if-not-exists", help="A topic that is there already is no failure."),
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Make topics."""
    from ottla import NewTopic
    from ottla.errors import ErrorCode

    config = assignments(settings or [], "--set")
    wanted = [
        NewTopic(
            name,
            -1 if partitions is None else partitions,
            -1 if replication_factor is None else replication_factor,
            config,
        )
        for name in topics
    ]
    with connected_admin(bootstrap) as admin:
        outcome = admin.create_topics(wanted)
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for name, error in outcome.items():
        there = error is not None and error.code is ErrorCode.TOPIC_ALREADY_EXISTS
        if error is None or (there and if_not_exists):
            rows.append({"topic": name, "created": error is None})
        else:
            failures[name] = refusal(error)
    _tell(rows, output, {True: "created", False: "was there already"}, "created")
    report(failures, len(rows))


@app.command(
    "list",
    help=manual("""
    List the topics.

    Examples:

      ottla topic list
      ottla topic list --internal -o json
    """),
)
def list_topics(
    internal: Annotated[
        bool, typer.Option("--internal", help="Show the brokers' own topics, too.")
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """List the topics."""
    with connected_admin(bootstrap) as admin:
        found = admin.describe_topics()
    rows: list[Row] = []
    for name, topic in sorted(found.items()):
        if isinstance(topic, Exception) or (topic.internal and not internal):
            continue
        replicas = [len(partition.replicas) for partition in topic.partitions]
        rows.append(
            {
                "topic": name,
                "partitions": len(topic.partitions),
                "replication_factor": max(replicas, default=0),
                "internal": topic.internal,
            }
        )
    columns = [
        Column("topic"),
        Column("partitions", numeric=True),
        Column("replication_factor", "replicas", numeric=True),
    ]
    show_rows(rows, columns, output)


@app.command(
    help=manual("""
    Show topics: their partitions, with leaders, replicas and offsets, and the settings that differ from
    the defaults.

    Examples:

      ottla topic describe weather.observations
      ottla topic describe weather.observations --all-settings -o json
    """)
)
def describe(
    topics: Topics,
    all_settings: Annotated[
        bool, typer.Option("--all-settings", help="Show every setting, defaults included.")
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Show topics."""
    failures: dict[str, str] = {}
    shown: list[Row] = []
    with connected_admin(bootstrap) as admin:
        for name, topic in admin.describe_topics(*topics).items():
            if isinstance(topic, Exception):
                failures[name] = refusal(topic)
                continue
            settings = admin.describe_config(topic=name, documentation=all_settings)
            kept = [entry for entry in settings.values() if all_settings or not entry.is_default]
            shown.append(_described(topic, _partition_rows(admin, topic), kept))
    if output is Output.json:
        show_json(shown)
    else:
        for row in shown:
            _show_topic(row)
    report(failures, 0)


@app.command(
    help=manual("""
    Change a topic while it is in use: give it more partitions, set settings, or let them go back to the
    broker's defaults.

    Partitions can only be added; keys go to other partitions afterwards.

    Examples:

      ottla topic alter weather.observations --set retention.ms=86400000
      ottla topic alter weather.observations --unset retention.ms --partitions 6
    """)
)
def alter(
    topic: Annotated[
        str,
        typer.Argument(metavar="TOPIC", help="The topic.", autocompletion=completion.topics),
    ],
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions", "-p", min=1, metavar="N", help="How many partitions there shall be."
        ),
    ] = None,
    settings: SetOption = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset",
            metavar="NAME",
            help="A setting that goes back to its default. May be repeated.",
        ),
    ] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Change a topic while it is in use."""
    changed = assignments(settings or [], "--set")
    removed = list(dict.fromkeys(unset or []))
    if partitions is None and not changed and not removed:
        raise UsageError("say what to change with --partitions, --set or --unset")
    both = sorted(set(changed) & set(removed))
    if both:
        raise UsageError(f"--set and --unset both name {', '.join(both)}")
    with connected_admin(bootstrap) as admin:
        if changed or removed:
            admin.alter_config(topic=topic, set=changed, delete=removed)
        if partitions is not None:
            admin.create_partitions(topic, partitions)
    if output is Output.json:
        show_json({"topic": topic, "partitions": partitions, "set": changed, "unset": removed})
        return
    parts = [f"{name}={value}" for name, value in changed.items()]
    parts += [f"{name} back to its default" for name in removed]
    if partitions is not None:
        parts.append(f"{partitions} partitions")
    say(f"{topic}: {', '.join(parts)}")


@app.command(
    help=manual("""
    Delete topics with all their records. On a terminal it asks first.

    Examples:

      ottla topic delete greetings
      ottla topic delete old.one old.two --yes
    """)
)
def delete(
    topics: Topics,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Delete topics with all their records."""
    confirm("Delete with all records:", topics, yes=yes)
    with connected_admin(bootstrap) as admin:
        outcome = admin.delete_topics(topics)
    failures = {name: refusal(error) for name, error in outcome.items() if error is not None}
    rows: list[Row] = [
        {"topic": name, "deleted": True} for name, error in outcome.items() if error is None
    ]
    _tell(rows, output, {True: "deleted"}, "deleted")
    report(failures, len(rows))


def _tell(rows: list[Row], output: Output, words: dict[bool, str], key: str) -> None:
    """What was done, a line each."""
    if output is Output.json:
        show_json(rows)
        return
    for row in rows:
        say(f"{row['topic']} {words[bool(row[key])]}")


def _partition_rows(admin: Admin, topic: TopicDescription) -> list[Row]:
    """A topic's partitions with their offsets; without those where there is no leader to ask."""
    from ottla.errors import KafkaError

    led = [(topic.name, item.partition) for item in topic.partitions if item.leader >= 0]
    starts: dict[Partition, int] = {}
    ends: dict[Partition, int] = {}
    with contextlib.suppress(KafkaError):  # a leader that is just moving
        starts, ends = offsets_at(admin, led, "earliest"), offsets_at(admin, led, "latest")
    rows: list[Row] = []
    for partition in topic.partitions:
        number = partition.partition
        start, end = starts.get((topic.name, number)), ends.get((topic.name, number))
        rows.append(
            {
                "partition": number,
                "leader": partition.leader if partition.leader >= 0 else None,
                "leader_epoch": partition.leader_epoch,
                "replicas": list(partition.replicas),
                "isr": list(partition.isr),
                "log_start": start,
                "log_end": end,
                "records": None if start is None or end is None else end - start,
            }
        )
    return rows


def _described(topic: TopicDescription, partitions: list[Row], kept: list[ConfigEntry]) -> Row:
    settings: list[Row] = []
    for entry in sorted(kept):
        row: Row = {"name": entry.name, "value": entry.value, "source": entry.source}
        if entry.documentation:
            row["documentation"] = entry.documentation
        settings.append(row)
    return {
        "topic": topic.name,
        "topic_id": topic.topic_id,
        "internal": topic.internal,
        "partitions": partitions,
        "settings": settings,
    }


def _show_topic(row: Row) -> None:
    partitions, settings = row["partitions"], row["settings"]
    assert isinstance(partitions, list)
    assert isinstance(settings, list)
    identity = f", id {row['topic_id']}" if row["topic_id"] else ""
    show_rows(
        partitions,
        [
            Column("partition", numeric=True),
            Column("leader", numeric=True),
            Column("leader_epoch", numeric=True),
            Column("replicas"),
            Column("isr", "in sync"),
            Column("log_start", numeric=True),
            Column("log_end", numeric=True),
            Column("records", numeric=True),
        ],
        Output.table,
        title=f"{row['topic']}: {len(partitions)} partitions{identity}",
    )
    if settings:
        columns = [Column("name", "setting"), Column("value"), Column("source")]
        if any("documentation" in item for item in settings):
            columns.append(Column("documentation"))
        show_rows(settings, columns, Output.table)


add_trim(app)
