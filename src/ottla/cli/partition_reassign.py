"""``ottla partition reassign``: give partitions replicas on other brokers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.common import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    OutputOption,
    connected_admin,
    refusal,
    report,
)
from ottla.cli.failures import CommandFailed, UsageError
from ottla.cli.manual import manual
from ottla.cli.offset_reset import Partition
from ottla.cli.output import Column, Output, Row, note, show_json, show_rows
from ottla.cli.partition_selection import AllOption, Selection, current_of, named, selected
from ottla.cli.reassignment_plan import (
    Assignment,
    Plan,
    parse_brokers,
    plan_document,
    propose,
    read_plan,
)
from ottla.errors import ErrorCode

if TYPE_CHECKING:
    from ottla import Admin

LOOK_S = 0.5
"""How often --wait looks."""

_COLUMNS = [
    Column("topic"),
    Column("partition", numeric=True),
    Column("replicas", "now"),
    Column("wanted"),
    Column("state"),
]


HELP = manual("""
Give partitions replicas on other brokers, while they are in use.

What is wanted stands in --plan (the JSON file of kafka-reassign-partitions), or is worked out: topics or
--all, and the brokers that are to have them in --to. As little as can be is moved then; brokers in the
list have equal shares afterwards, and racks different replicas.

Without another word the plan is shown, and with -o json written as a file. --execute begins, and
--verify says how far it is; --wait stays until all is done. --cancel goes back to what was. --throttle
bounds what brokers copy for it; the bound goes with --verify or --wait once nothing is under way any
more.

Examples:

  ottla partition reassign --all --to 1,2,3,4 -o json > plan.json
  ottla partition reassign --plan plan.json --execute --throttle 50000000
  ottla partition reassign --plan plan.json --verify
  ottla partition reassign audit --to 1,2,3 --replication-factor 3 --execute --wait
  ottla partition reassign --all --cancel
""")


To = Annotated[
    str | None,
    typer.Option("--to", metavar="ID,...", help="The brokers that are to have the replicas."),
]
ReplicationFactor = Annotated[
    int | None,
    typer.Option(
        "--replication-factor",
        "-r",
        min=1,
        metavar="N",
        help="How many replicas of each; as many as now, without it.",
    ),
]
PlanFile = Annotated[
    str | None, typer.Option("--plan", metavar="FILE", help="A plan; - for standard input.")
]
Throttle = Annotated[
    int | None,
    typer.Option(
        "--throttle", min=1, metavar="BYTES", help="What each broker may copy in a second."
    ),
]


def add_reassign(app: typer.Typer) -> None:
    """Add the command to the partition's."""
    app.command("reassign", help=HELP)(reassign)


def reassign(
    topics: Selection = None,
    everything: AllOption = False,
    to: To = None,
    replication_factor: ReplicationFactor = None,
    plan_file: PlanFile = None,
    execute: Annotated[bool, typer.Option("--execute", help="Begin.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Say how far it is.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End what is under way, and go back.")
    ] = False,
    throttle: Throttle = None,
    keep_throttle: Annotated[
        bool, typer.Option("--keep-throttle", help="Leave a throttle as it is set.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until all is done.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    output: OutputOption = Output.table,
) -> None:
    """Give partitions replicas on other brokers."""
    named_here = bool(topics or everything)
    _check_words(execute=execute, verify=verify, cancel=cancel, only_execute=throttle or wait)
    _check_source(plan_file, to, replication_factor, named_here, begun=verify or cancel)
    plan = None if plan_file is None else read_plan(_text(plan_file))
    with connected_admin(bootstrap) as admin:
        if plan is not None:
            current = _current_of_plan(admin, plan)
        else:
            current = selected(admin, topics, everything)
            if to is not None:
                plan = _plan_to(admin, current, to, replication_factor)
        if cancel:
            _cancel(admin, current, keep_throttle, output)
        elif verify:
            _verify(admin, current, plan, keep_throttle, output)
        elif plan is not None and execute:
            _execute(admin, current, plan, throttle, output)
            if wait:
                _wait(admin, plan)
                if not keep_throttle:
                    _let_go(admin, current, plan)
        elif plan is not None:
            _propose(current, plan, output)


def _current_of_plan(admin: Admin, plan: Plan) -> Assignment:
    current = current_of(admin, sorted({topic for topic, _ in plan.replicas}))
    _check_known(plan, current)
    return {partition: current[partition] for partition in plan.replicas}


def _plan_to(admin: Admin, current: Assignment, to: str, replication_factor: int | None) -> Plan:
    """The plan of ``--to``: the replicas spread over these brokers."""
    racks = {node.node_id: node.rack for node in admin.describe_cluster().nodes}
    brokers = parse_brokers(to)
    unknown = sorted(set(brokers) - racks.keys())
    if unknown:
        raise CommandFailed(f"--to: there is no broker {', '.join(map(str, unknown))}")
    return Plan(propose(current, brokers, racks, replication_factor), {})


def _check_words(*, execute: bool, verify: bool, cancel: bool, only_execute: object) -> None:
    if [execute, verify, cancel].count(True) > 1:
        raise UsageError("--execute, --verify and --cancel exclude each other")
    if only_execute and not execute:
        raise UsageError("--throttle and --wait go with --execute")


def _check_source(
    plan_file: str | None,
    to: str | None,
    replication_factor: int | None,
    named_here: bool,
    *,
    begun: bool,
) -> None:
    if plan_file is not None and (named_here or to or replication_factor):
        raise UsageError("--plan says it all: no topics, --all, --to or --replication-factor")
    if plan_file is None and to is None and not begun:
        raise UsageError("say what is wanted with --plan or --to")
    if replication_factor is not None and to is None:
        raise UsageError("--replication-factor goes with --to")


def _text(path: str) -> str:
    return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")


def _check_known(plan: Plan, current: Assignment) -> None:
    unknown = [f"{topic}:{n}" for topic, n in plan.replicas if (topic, n) not in current]
    if unknown:
        raise CommandFailed(f"there is no partition {', '.join(unknown)}")


def _propose(current: Assignment, plan: Plan, output: Output) -> None:
    if output is Output.json:
        show_json(plan_document(plan.replicas))
        return
    rows = [
        _row(partition, current[partition], wanted, "to be moved")
        for partition, wanted in plan.replicas.items()
        if wanted != current[partition]
    ]
    if not rows:
        note("nothing is to be moved")
        return
    show_rows(rows, _COLUMNS, output)
    note("nothing was done: --execute begins, -o json writes the plan")


def _row(partition: Partition, now: list[int], wanted: list[int] | None, state: str) -> Row:
    return {
        "topic": partition[0],
        "partition": partition[1],
        "replicas": now,
        "wanted": wanted,
        "state": state,
    }


def _execute(
    admin: Admin, current: Assignment, plan: Plan, throttle: int | None, output: Output
) -> None:
    from ottla.cli.replication_throttle import set_throttle

    if throttle is not None:
        set_throttle(admin, current, plan, throttle)
    if plan.log_dirs:  # before: a replica that is not there yet is made where it is to be
        _choose_log_dirs(admin, plan)
    outcome = admin.alter_partition_reassignments(plan.replicas)
    if plan.log_dirs:
        _choose_log_dirs(admin, plan)
    rows, failures = [], {}
    for partition, error in outcome.items():
        key = (partition.topic, partition.partition)
        if error is not None:
            failures[named(partition)] = refusal(error)
        else:
            rows.append(_row(key, current[key], plan.replicas[key], "begun"))
    if rows or output is Output.json:
        show_rows(rows, _COLUMNS, output)
    report(failures, len(rows))


def _choose_log_dirs(admin: Admin, plan: Plan) -> None:
    failures: dict[str, str] = {}
    for (topic, partition, broker), error in admin.alter_replica_log_dirs(plan.log_dirs).items():
        if error is not None and error.code is not ErrorCode.REPLICA_NOT_AVAILABLE:
            failures[f"{topic}:{partition} on broker {broker}"] = refusal(error)
    report(failures, 0)


def _wait(admin: Admin, plan: Plan) -> None:
    while True:
        left = admin.list_partition_reassignments(plan.replicas)
        if not left:
            return
        time.sleep(LOOK_S)


def _verify(
    admin: Admin, current: Assignment, plan: Plan | None, keep_throttle: bool, output: Output
) -> None:
    under_way = admin.list_partition_reassignments(current)
    rows = []
    failures: dict[str, str] = {}
    for partition, now in current.items():
        moving = under_way.get(partition)  # type: ignore[call-overload]
        wanted = None if plan is None else plan.replicas[partition]
        if moving is not None:
            target = [broker for broker in moving.replicas if broker not in moving.removing]
            other = wanted is not None and set(target) != set(wanted)
            state = "under way, to another plan" if other else "under way"
            rows.append(_row(partition, moving.replicas, target, state))
        elif wanted is None:
            continue
        elif now == wanted:
            rows.append(_row(partition, now, wanted, "done"))
        else:
            rows.append(_row(partition, now, wanted, "not as planned"))
            failures[f"{partition[0]}:{partition[1]}"] = "its replicas are not those of the plan"
    show_rows(rows, _COLUMNS, output)
    if not under_way and not keep_throttle:
        _let_go(admin, current, plan)
    report(failures, 0)


def _let_go(admin: Admin, current: Assignment, plan: Plan | None) -> None:
    """Take the throttles away, unless something else still is under way, as Kafka's tool does."""
    from ottla.cli.replication_throttle import remove_throttle

    if not admin.list_partition_reassignments():
        remove_throttle(admin, current, plan)


def _cancel(admin: Admin, current: Assignment, keep_throttle: bool, output: Output) -> None:
    under_way = admin.list_partition_reassignments(current)
    outcome = admin.alter_partition_reassignments(dict.fromkeys(under_way)) if under_way else {}
    rows, failures = [], {}
    for partition, error in outcome.items():
        if error is None:
            moving = under_way[partition]
            before = [broker for broker in moving.replicas if broker not in moving.adding]
            rows.append(_row(partition, moving.replicas, before, "cancelled"))
        elif error.code is not ErrorCode.NO_REASSIGNMENT_IN_PROGRESS:  # it was done meanwhile
            failures[named(partition)] = refusal(error)
    if rows or output is Output.json:
        show_rows(rows, _COLUMNS, output)
    else:
        note("nothing is under way")
    if not keep_throttle:
        _let_go(admin, current, None)
    report(failures, len(rows))
