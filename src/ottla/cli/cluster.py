"""``ottla cluster``: how the brokers of a cluster are."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.cluster_status import Status, status_of
from ottla.cli.common import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    connected_admin,
    is_unreachable,
)
from ottla.cli.failures import one_line
from ottla.cli.manual import manual
from ottla.cli.output import Column, Output, Row, note, say, show_json, show_rows

if TYPE_CHECKING:
    from ottla import Admin

app = typer.Typer(name="cluster", help="How the brokers of a cluster are.", no_args_is_help=True)

_CLEAR = "\x1b[H\x1b[2J"
"""To the upper left corner of a terminal, with nothing on it."""

_BROKER_COLUMNS = [
    Column("broker", numeric=True),
    Column("address"),
    Column("rack"),
    Column("controller"),
    Column("leads", numeric=True),
    Column("replicas", numeric=True),
    Column("in_sync", numeric=True),
]
_PARTITION_COLUMNS = [
    Column("topic"),
    Column("partition", numeric=True),
    Column("leader", numeric=True),
    Column("leader_epoch", numeric=True),
    Column("replicas"),
    Column("isr", "in sync"),
    Column("state"),
    Column("reassigning"),
]


@app.callback()
def cluster() -> None:
    """How the brokers of a cluster are."""


@app.command(
    help=manual("""
    Show the brokers of a cluster, which one is the controller, who leads how many partitions, and which
    partitions have no leader or a replica that is not in sync.

    A broker that has replicas and is not there has no address. Any broker can be asked: with several
    addresses in -b it does not matter which one is down.

    Examples:

      ottla cluster status
      ottla cluster status --watch -b host1:9092,host2:9092,host3:9092
      ottla cluster status --all -o json
    """)
)
def status(
    everything: Annotated[
        bool, typer.Option("--all", help="Show every partition, not only those in trouble.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option("--interval", min=0.1, metavar="SECONDS", help="How often, with --watch."),
    ] = 1.0,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Show how the brokers of a cluster are."""
    from ottla import KafkaError

    with connected_admin(bootstrap) as admin:
        while True:
            try:
                _show(_ask(admin), everything, watch, output)
            except KafkaError as error:
                if not watch:
                    raise
                nobody = is_unreachable(error)
                note(f"no broker answers at {bootstrap}" if nobody else one_line(error))
            if not watch:
                return
            time.sleep(interval)


def _ask(admin: Admin) -> Status:
    from ottla import KafkaError

    found = admin.describe_topics().values()
    topics = [topic for topic in found if not isinstance(topic, KafkaError)]
    try:
        reassigning = list(admin.list_partition_reassignments())
    except KafkaError:  # there is no controller to ask just now, or it may not be asked
        reassigning = []
    return status_of(admin.describe_cluster(), topics, reassigning)


def _show(found: Status, everything: bool, watch: bool, output: Output) -> None:
    if output is Output.json:
        if watch:
            say(json.dumps(found.document(), ensure_ascii=False))
            sys.stdout.flush()
        else:
            show_json(found.document())
        return
    if watch and sys.stdout.isatty():
        sys.stdout.write(_CLEAR)
    say(found.summary())
    show_rows(found.brokers, _BROKER_COLUMNS, output)
    shown: list[Row] = [
        row for row in found.partitions if everything or row["state"] != "ok" or row["reassigning"]
    ]
    if shown:
        show_rows(shown, _PARTITION_COLUMNS, output)
    if watch:
        if not sys.stdout.isatty():
            say("")
        sys.stdout.flush()
