"""``ottla partition``: which brokers have a partition's replicas, and which one leads."""

from __future__ import annotations

from typing import Annotated

import typer

from ottla.cli.common import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    connected_admin,
    refusal,
    report,
)
from ottla.cli.failures import UsageError
from ottla.cli.manual import manual
from ottla.cli.output import Column, Output, Row, note, show_rows
from ottla.cli.partition_reassign import add_reassign
from ottla.cli.partition_selection import AllOption, Selection, named, selected
from ottla.errors import ErrorCode

app = typer.Typer(
    name="partition",
    help="Move partitions and their leaders between brokers.",
    no_args_is_help=True,
)


@app.command(
    help=manual("""
    Let partitions be led by other replicas: by the preferred one, the first of their list, or (--unclean) by
    any that lives, where all that were in sync are gone. What the others had written last is lost then.

    Examples:

      ottla partition elect --all
      ottla partition elect weather.observations:0-2 --preferred
      ottla partition elect audit:4 --unclean
    """)
)
def elect(
    topics: Selection = None,
    everything: AllOption = False,
    preferred: Annotated[
        bool, typer.Option("--preferred", help="The preferred replicas; without a word, too.")
    ] = False,
    unclean: Annotated[
        bool, typer.Option("--unclean", help="Any replica, where there is no leader.")
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Let partitions be led by other replicas."""
    if preferred and unclean:
        raise UsageError("--preferred and --unclean exclude each other")
    if bool(topics) == everything:
        raise UsageError("say which partitions: topics, or --all")
    with connected_admin(bootstrap) as admin:
        wanted = None if everything else selected(admin, topics, False)
        outcome = admin.elect_leaders(wanted, unclean=unclean)
        names = sorted({topic for topic, _ in outcome})
        leaders = {
            (name, each.partition): each.leader
            for name, found in (admin.describe_topics(*names).items() if names else ())
            if not isinstance(found, Exception)
            for each in found.partitions
        }
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for partition, error in sorted(outcome.items()):
        if error is not None and error.code is not ErrorCode.ELECTION_NOT_NEEDED:
            failures[named(partition)] = refusal(error)
            continue
        leader = leaders.get(partition, -1)
        rows.append(
            {
                "topic": partition.topic,
                "partition": partition.partition,
                "leader": leader if leader >= 0 else None,
                "elected": error is None,
            }
        )
    columns = [
        Column("topic"),
        Column("partition", numeric=True),
        Column("leader", numeric=True),
        Column("elected"),
    ]
    if rows or output is Output.json:
        show_rows(rows, columns, output)
    elif not failures:
        note("no election was needed")
    report(failures, len(rows))


add_reassign(app)
