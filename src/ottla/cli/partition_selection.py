"""Which partitions a command is about: topics, or some partitions of them, or all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli import completion
from ottla.cli.common import refusal
from ottla.cli.failures import CommandFailed, UsageError
from ottla.cli.offset_reset import Partition, parse_selection, select
from ottla.cli.reassignment_plan import Assignment, described

if TYPE_CHECKING:
    from ottla import Admin

Selection = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TOPIC[:0,2-4]",
        help="Topics, or some partitions of them.",
        autocompletion=completion.topics,
    ),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="All partitions of all topics, internal ones included.")
]


def current_of(admin: Admin, names: Iterable[str]) -> Assignment:
    """The replicas of these topics (of all); raises CommandFailed for one that is not there."""
    current: Assignment = {}
    for name, found in admin.describe_topics(*names).items():
        if isinstance(found, Exception):
            raise CommandFailed(f"{name}: {refusal(found)}")
        current.update(described(found.partitions, name))
    return current


def selected(admin: Admin, topics: list[str] | None, everything: bool) -> Assignment:
    """The replicas of what is named on the command line; raises UsageError, CommandFailed."""
    if bool(topics) == everything:
        raise UsageError("say which partitions: topics, or --all")
    if everything:
        return current_of(admin, ())
    selection = parse_selection(topics or ())
    current = current_of(admin, selection)
    existing: dict[str, list[int]] = {}
    for name, number in current:
        existing.setdefault(name, []).append(number)
    return {partition: current[partition] for partition in select(selection, existing)}


def named(partition: Partition) -> str:
    """A partition as it is written on a command line."""
    return f"{partition[0]}:{partition[1]}"
